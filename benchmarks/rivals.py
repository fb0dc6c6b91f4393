"""The trainers that ours is compared with: open_clip's own code, and a plain loop as most people write it."""

import csv
import json
import logging
import re
import time
from contextlib import contextmanager
from pathlib import Path

import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from transformers import AutoTokenizer, BertConfig, BertModel, DistilBertModel

from miniclip.data.head import head
from miniclip.data.image_cache import DecodedImages
from miniclip.data.reader import captions_of, find_columns, load_split
from modeling_miniclip import MiniCLIPModel

MODEL_NAME = "resnet18-bert"
CSV_FILE = "pairs.csv"
WORKERS = 2
BERT_NAMES = {  # names in a DistilBERT layer, with their names in BERT
    "attention.q_lin": "attention.self.query",
    "attention.k_lin": "attention.self.key",
    "attention.v_lin": "attention.self.value",
    "attention.out_lin": "attention.output.dense",
    "sa_layer_norm": "attention.output.LayerNorm",
    "ffn.lin1": "intermediate.dense",
    "ffn.lin2": "output.dense",
    "output_layer_norm": "output.LayerNorm",
}
BATCH_TIME = re.compile(r"Batch \(t\): ([\d.]+)")


def write_pairs(folder: Path, dataset_name: str, num_images: int, image_size: int, captions_per_image: int = 1) -> None:
    """Write the first training images as JPEG files, and a table with their paths and first captions."""
    dataset = head(load_split(dataset_name, "train"), num_images)
    columns = find_columns(dataset)
    images = DecodedImages(dataset, columns.image, image_size)
    with (folder / CSV_FILE).open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["filepath", "caption"])
        for number, row in enumerate(dataset):
            path = folder / f"{number}.jpg"
            Image.fromarray(images[number].permute(1, 2, 0).numpy()).save(path, quality=90)
            table.writerows([path, caption] for caption in captions_of(row, columns)[:captions_per_image])


def as_bert(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """DistilBERT's weights under BERT's names. DistilBERT has no segment embeddings, so these are zero."""
    renamed = {}
    for name, tensor in weights.items():
        name = name.replace("transformer.layer.", "encoder.layer.")
        for distilbert, bert in BERT_NAMES.items():
            name = name.replace(f".{distilbert}.", f".{bert}.")
        renamed[name] = tensor
    width = renamed["embeddings.word_embeddings.weight"].shape[1]
    return renamed | {"embeddings.token_type_embeddings.weight": torch.zeros(2, width)}


def write_bert(folder: Path, text_encoder: str) -> None:
    """
    Write a BERT that computes the same as a DistilBERT, with its tokenizer. open_clip does not support DistilBERT.

    Args:
        text_encoder: folder or Hub id of a DistilBERT.
    """
    distilbert = DistilBertModel.from_pretrained(text_encoder, dtype=torch.float32)
    config = BertConfig(
        vocab_size=distilbert.config.vocab_size,
        hidden_size=distilbert.config.dim,
        num_hidden_layers=distilbert.config.n_layers,
        num_attention_heads=distilbert.config.n_heads,
        intermediate_size=distilbert.config.hidden_dim,
        max_position_embeddings=distilbert.config.max_position_embeddings,
    )
    bert = BertModel(config, add_pooling_layer=False)
    bert.load_state_dict(as_bert(distilbert.state_dict()))
    bert.save_pretrained(folder)
    AutoTokenizer.from_pretrained(text_encoder).save_pretrained(folder)


def write_open_clip_config(
    folder: Path, image_encoder: str, text_encoder: str, image_size: int, context_length: int | None
) -> None:
    """
    Write a model for open_clip's registry that starts from the same encoders as ours.

    Args:
        image_encoder: timm name, Hub id or local timm folder.
        text_encoder: folder or Hub id of a DistilBERT.
        context_length: number of tokens to which captions are padded; by default open_clip's own 77.
    """
    write_bert(folder / "bert", text_encoder)
    text = {"hf_model_name": str(folder / "bert"), "hf_tokenizer_name": str(folder / "bert")}
    text |= {"hf_pooler_type": "mean_pooler", "hf_proj_type": "mlp"}
    if context_length is not None:
        text["context_length"] = context_length
    if Path(image_encoder).is_dir():
        image_encoder = f"local-dir:{Path(image_encoder).resolve()}"
    elif "/" in image_encoder:
        image_encoder = f"hf-hub:{image_encoder}"
    vision = {"timm_model_name": image_encoder, "timm_pool": "avg", "timm_proj": "mlp", "image_size": image_size}
    config = {"embed_dim": 256, "vision_cfg": vision, "text_cfg": text}
    (folder / f"{MODEL_NAME}.json").write_text(json.dumps(config))


@contextmanager
def padded_to_longest():
    """Let open_clip's text encoder cut batches to their longest caption, as its main branch does; 3.3 pads to 77."""
    from open_clip.hf_model import HFTextEncoder

    forward = HFTextEncoder.forward

    def cut(self, x: torch.Tensor):
        longest = int((x != self.config.pad_token_id).sum(dim=1).max())
        return forward(self, x[:, :longest])

    HFTextEncoder.forward = cut
    try:
        yield
    finally:
        HFTextEncoder.forward = forward


def train_open_clip(folder: Path, batch_size: int, epochs: int, device: str, precision: str, seed: int, **more) -> Path:
    """
    Run `open_clip_train.main` on the pairs in `folder`, as its README does.

    Args:
        more: further options, with `_` in place of `-`.

    Returns:
        The folder of the run, with `out.log` and `checkpoints/`.
    """
    import open_clip
    from open_clip_train.main import main

    open_clip.add_model_config(folder / f"{MODEL_NAME}.json")
    options = {
        "--model": MODEL_NAME,
        "--train-data": folder / CSV_FILE,
        "--dataset-type": "csv",
        "--csv-img-key": "filepath",
        "--csv-caption-key": "caption",
        "--csv-separator": ",",
        "--batch-size": batch_size,
        "--epochs": epochs,
        "--workers": WORKERS,
        "--precision": precision,
        "--device": device,
        "--seed": seed,
        "--lr": 1e-4,
        "--warmup": 10,
        "--log-every-n-steps": 1,
        "--logs": folder / "logs",
        "--name": f"run-{time.time_ns()}",
        "--save-frequency": 0,
    }
    options |= {f"--{name.replace('_', '-')}": value for name, value in more.items()}
    main(["--pretrained-image", *(str(word) for option in options.items() for word in option)])
    logging.shutdown()
    return folder / "logs" / options["--name"]


def step_seconds(run: Path) -> list[float]:
    """Seconds of each step from open_clip's own log, including loading."""
    return [float(seconds) for seconds in BATCH_TIME.findall((run / "out.log").read_text())]


def number_of_pairs(folder: Path) -> int:
    with (folder / CSV_FILE).open(newline="") as file:
        return sum(1 for _ in csv.DictReader(file))


class JpegPairs(Dataset):
    """Images that are decoded and resized every time, and captions padded to CLIP's 77 tokens, as in tutorials."""

    def __init__(self, folder: Path, tokenizer, image_size: int, mean: list[float], std: list[float]):
        with (folder / CSV_FILE).open(newline="") as file:
            self.rows = list(csv.DictReader(file))
        self.tokenizer = tokenizer
        self.transform = transforms.Compose(
            [transforms.Resize((image_size, image_size)), transforms.ToTensor(), transforms.Normalize(mean, std)]
        )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        row = self.rows[index]
        tokens = self.tokenizer(
            row["caption"], padding="max_length", truncation=True, max_length=77, return_tensors="pt"
        )
        pixel_values = self.transform(Image.open(row["filepath"]).convert("RGB"))
        return {"pixel_values": pixel_values, **{name: tokens[name][0] for name in ("input_ids", "attention_mask")}}


def train_plain_loop(
    folder: Path, model: MiniCLIPModel, processor, batch_size: int, steps: int, image_size: int, device: torch.device
) -> list[float]:
    """
    The original recipe, written by hand: float32, AdamW, summed gradients of two batches, BatchNorm in train mode.

    Args:
        model: used like any PyTorch module, in PyTorch's default memory format.

    Returns:
        Seconds of each batch, including loading.
    """
    model = model.to(device, memory_format=torch.contiguous_format).train()
    settings = processor.image_processor
    pairs = JpegPairs(folder, processor.tokenizer, image_size, settings.image_mean, settings.image_std)
    loader = DataLoader(pairs, batch_size, shuffle=True, drop_last=True, num_workers=WORKERS, pin_memory=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=1e-3)
    labels, cross_entropy = torch.arange(batch_size, device=device), nn.CrossEntropyLoss()
    seconds: list[float] = []
    while len(seconds) < steps:
        started = time.perf_counter()
        for batch in loader:
            logits = model(**{name: tensor.to(device) for name, tensor in batch.items()}).logits_per_image
            loss = (cross_entropy(logits, labels) + cross_entropy(logits.t(), labels)) / 2
            (loss / 2).backward()
            if len(seconds) % 2:
                optimizer.step()
                optimizer.zero_grad()
            loss.item()
            seconds.append(time.perf_counter() - started)
            started = time.perf_counter()
    return seconds
