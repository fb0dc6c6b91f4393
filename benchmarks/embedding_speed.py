"""How close embed_dataset.py comes to what the image encoder alone and the decoding alone allow.

python benchmarks/embedding_speed.py [--model_name_or_path runs/mine] [--dataset_name photos]

By default an untrained ResNet18 embeds drawn photos of 500 x 375 pixels. On a CPU, the encoder and the decoding share
the cores, so the limit is what both take one after the other. On a GPU it is the slower of the two.
"""

import argparse
import io
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import records
import torch
from datasets import Dataset, Features, Image
from PIL import Image as PILImage

from miniclip.commands.embed import embed
from miniclip.data.reader import find_image_column, load_split
from miniclip.data.tokenizer import train_tokenizer
from miniclip.embeddings.bulk import image_inputs
from miniclip.embeddings.encode import inference
from miniclip.training.launch import cores_per_process
from miniclip.utils.loading import default_device, load_model
from modeling_miniclip import MiniCLIPModel
from processing_miniclip import MiniCLIPProcessor

BATCH_SIZE = 64


def untrained_model(folder: Path) -> str:
    """ResNet18 with a small text encoder, which is not used."""
    tokenizer = train_tokenizer(["a photo"])
    text = {"dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 64, "vocab_size": len(tokenizer)}
    torch.manual_seed(0)
    MiniCLIPModel.from_encoders("resnet18", "distilbert", pretrained=False, text_config=text).save_pretrained(folder)
    MiniCLIPProcessor.from_encoders("resnet18", tokenizer).save_pretrained(folder)
    return str(folder)


def drawn_photos(folder: Path, count: int) -> str:
    """Parquet with JPEG files of coarse noise, about as large and as hard to decode as Flickr's."""
    generator = torch.Generator().manual_seed(0)
    rows = []
    for _ in range(count):
        coarse = torch.randint(256, (75, 100, 3), generator=generator, dtype=torch.uint8).numpy()
        file = io.BytesIO()
        PILImage.fromarray(coarse).resize((500, 375), PILImage.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        rows.append({"bytes": file.getvalue(), "path": None})
    folder.mkdir()
    dataset = Dataset.from_dict({"image": rows}, Features({"image": Image()}))
    dataset.to_parquet(folder / "train.parquet")
    return str(folder)


def encoder_speed(model, processor, count: int) -> float:
    """Images a second of the encoder on batches that lie ready."""
    side = processor.image_size
    batch = torch.randn(BATCH_SIZE, 3, side, side).to(model.device, memory_format=torch.channels_last)
    batches = max(1, count // BATCH_SIZE)
    with inference(model):
        model.encode_image(batch).cpu()
        start = time.perf_counter()
        for _ in range(batches):
            model.encode_image(batch).cpu()
        return batches * BATCH_SIZE / (time.perf_counter() - start)


def decoding_speed(processor, dataset, image_column: str) -> float:
    """Images a second of decoding and resizing alone."""
    with ThreadPoolExecutor(cores_per_process()) as pool:
        start = time.perf_counter()
        rows = list(pool.map(lambda row: image_inputs(processor, row[image_column]), dataset))
        return len(rows) / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model_name_or_path", help="by default an untrained ResNet18")
    parser.add_argument("--dataset_name", help="by default drawn photos")
    parser.add_argument("--count", type=int, default=1500, help="photos to draw")
    parser.add_argument("--output", type=Path, default=records.RESULTS / "embedding_speed.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        name = arguments.model_name_or_path or untrained_model(folder / "model")
        data = arguments.dataset_name or drawn_photos(folder / "photos", arguments.count)
        model, processor = load_model(name, default_device())
        dataset = load_split(data, "all")
        encoder = encoder_speed(model, processor, len(dataset))
        decoding = decoding_speed(processor, dataset, find_image_column(dataset))
        command = embed(name, data, folder / "embeddings", batch_size=BATCH_SIZE).images_per_s
    on_cpu = model.device.type == "cpu"
    limit = 1 / (1 / encoder + 1 / decoding) if on_cpu else min(encoder, decoding)
    figures = {
        "model": arguments.model_name_or_path and Path(name).name or "untrained resnet18",
        "images": len(dataset),
        "encoder_images_per_s": encoder,
        "decoding_images_per_s": decoding,
        "limit_images_per_s": limit,
        "embed_images_per_s": command,
        "share_of_limit": command / limit,
    }
    print({name: round(value, 2) if isinstance(value, float) else value for name, value in figures.items()})
    records.save(figures, arguments.output, 0, model.device)


if __name__ == "__main__":
    main()
