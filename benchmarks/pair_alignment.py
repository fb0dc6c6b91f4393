"""Does the alignment of two encoders, before any training, tell how well the pair will learn?

    python benchmarks/pair_alignment.py \
        --image_encoders timm/resnet18.a1_in1k timm/tf_efficientnet_lite0.in1k timm/tf_efficientnet_lite2.in1k

The alignment is the linear CKA (Kornblith et al., 2019) of the features of 1,000 images and of one caption each. Then
heads are trained on the locked pair as in the first stage of configs/flickr8k_2cores.yaml, to see how well it learns.
Each image encoder is tried with both poolings of the text encoder and with each image size.
"""

import argparse
import itertools
import tempfile
from pathlib import Path

import records
import torch
from ablations import stage, train
from scipy.stats import spearmanr

from miniclip.data.images import decode_image
from miniclip.data.reader import find_columns, find_image_column, load_split
from miniclip.data.repetitions import sample_rows
from miniclip.embeddings.encode import inference
from miniclip.utils.loading import default_device
from modeling_miniclip import MiniCLIPModel
from processing_miniclip import MiniCLIPProcessor

PAIRS = 1000
POOLINGS = ("mean", "cls")
BATCH_SIZE = 50


def linear_cka(first: torch.Tensor, second: torch.Tensor) -> float:
    """Linear centred kernel alignment of features `(n, d)` and `(n, k)`, between 0 and 1."""
    first, second = (features.double() - features.double().mean(dim=0) for features in (first, second))
    product, squares = (first.T @ second).norm() ** 2, [(f.T @ f).norm() for f in (first, second)]
    return (product / (squares[0] * squares[1])).item()


def alignment(settings: dict, dataset) -> float:
    """The CKA of a pair that is not trained."""
    names = settings["image_encoder"], settings["text_encoder"]
    model = MiniCLIPModel.from_encoders(*names, text_pooling=settings["text_pooling"]).to(default_device())
    processor = MiniCLIPProcessor.from_encoders(*names, image_size=settings["image_size"])
    columns = find_columns(dataset, find_image_column(dataset), None, None)
    images, texts = [], []
    with inference(model):
        for batch in dataset.iter(batch_size=BATCH_SIZE):
            photos = [decode_image(value, processor.decoding_side) for value in batch[columns.image]]
            words = [captions[0] if isinstance(captions, list) else captions for captions in batch[columns.captions[0]]]
            inputs = processor(images=photos, text=words, return_tensors="pt").to(model.device)
            images.append(model.pool_image(inputs.pop("pixel_values")).float().cpu())
            texts.append(model.pool_text(**inputs).float().cpu())
    return linear_cka(torch.cat(images), torch.cat(texts))


def learnt_recall(settings: dict) -> float:
    """Mean recall at 1 on the validation split of heads that were trained on the locked pair."""
    with tempfile.TemporaryDirectory() as folder:
        return train(settings, Path(folder) / "run")["best_validation_recall@1"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_name", default="jxie/flickr8k")
    parser.add_argument("--text_encoder", default="sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--image_encoders", nargs="+", required=True)
    parser.add_argument("--image_sizes", nargs="+", type=int, default=[128, 224])
    parser.add_argument("--output", type=Path, default=records.RESULTS / "pair_alignment.json")
    arguments = parser.parse_args()
    train_split = load_split(arguments.dataset_name, "train")
    dataset = train_split.select(sample_rows(len(train_split), PAIRS))
    rows = []
    for encoder, size, pooling in itertools.product(arguments.image_encoders, arguments.image_sizes, POOLINGS):
        settings = stage("lite2_heads", 0) | {
            "dataset_name": arguments.dataset_name,
            "image_encoder": encoder,
            "text_encoder": arguments.text_encoder,
            "image_size": size,
            "text_pooling": pooling,
        }
        pair = {"image_encoder": Path(encoder).name, "image_size": size, "text_pooling": pooling}
        rows.append(pair | {"cka": alignment(settings, dataset), "recall@1": learnt_recall(settings)})
        print(rows[-1], flush=True)
    correlation = spearmanr([row["cka"] for row in rows], [row["recall@1"] for row in rows])
    figures = {
        "text_encoder": Path(arguments.text_encoder).name,
        "pairs": rows,
        "spearman": float(correlation.statistic),
        "p_value": float(correlation.pvalue),
    }
    records.save(figures, arguments.output, 0, default_device())


if __name__ == "__main__":
    main()
