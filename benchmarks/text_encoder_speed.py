"""Forward and backward passes of a text encoder on a CPU: what encoding in groups of similar length saves.

    python benchmarks/text_encoder_speed.py --dataset_name path/to/flickr8k --text_encoder path/to/encoder
    python benchmarks/text_encoder_speed.py --dataset_name path/to/flickr8k --text_encoder path/to/encoder --avx2

- `whole`: the captions of a batch, padded to the longest of them.
- `grouped`: as in training, in groups of similar length (`miniclip.training.similar_lengths`).

Both encode the same random captions in train mode and take turns, step by step, so that other work on the machine
disturbs both alike. The ratio is the median of the ratios of neighbouring steps. `--avx2` keeps PyTorch from using
newer instructions than AVX2, as on most laptops. Writes benchmarks/results/text_encoder_speed.json, or
text_encoder_speed_avx2.json.
"""

import argparse
import os
import statistics
import time
from contextlib import nullcontext
from itertools import chain

import torch
from records import RESULTS, add_speed_arguments, fast_precisions, limit_to_avx2, save
from transformers import AutoModel, AutoTokenizer, PreTrainedModel

from miniclip.data.reader import find_columns, load_split, usable_captions
from miniclip.training.similar_lengths import similar_lengths, texts_of_similar_length
from miniclip.utils.memory import keep_freed_memory

CPU = torch.device("cpu")


def seconds(model: PreTrainedModel, texts: dict, precision: str, grouped: bool) -> float:
    """Of a forward and a backward pass."""
    model.zero_grad()
    started = time.perf_counter()
    with texts_of_similar_length(model) if grouped else nullcontext():
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            states = model(input_ids=texts["input_ids"], attention_mask=texts["attention_mask"]).last_hidden_state
        states[:, 0].float().square().mean().backward()
    return time.perf_counter() - started


def measure(model: PreTrainedModel, batches: list[dict], precision: str, warmup_rounds: int) -> dict:
    times = [(seconds(model, texts, precision, False), seconds(model, texts, precision, True)) for texts in batches]
    whole, grouped = zip(*times[warmup_rounds:], strict=True)
    ratio = statistics.median(before / after for before, after in zip(whole, grouped, strict=True))
    medians = {"whole": round(statistics.median(whole), 4), "grouped": round(statistics.median(grouped), 4)}
    return medians | {"ratio": round(ratio, 3)}


def tokens_left(batches: list[dict]) -> float:
    """Share of the tokens, with padding, that are still encoded."""
    whole = grouped = 0
    for mask in (texts["attention_mask"] for texts in batches):
        whole += mask.numel()
        grouped += sum(len(rows) * int(mask[rows].sum(dim=1).max()) for rows in similar_lengths(mask))
    return grouped / whole


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset_name", default="jxie/flickr8k", help="captions; a Hub id or a local folder")
    parser.add_argument("--text_encoder", default="distilbert-base-uncased", help="a Hub id or a local folder")
    parser.add_argument("--batch_sizes", nargs="+", type=int, default=[128, 256, 512], help="captions in a batch")
    add_speed_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse()
    if args.avx2:
        limit_to_avx2()
    precisions = args.precisions or fast_precisions()
    torch.manual_seed(args.seed)
    load_average = os.getloadavg()[0]
    keep_freed_memory()  # as training does
    dataset = load_split(args.dataset_name, "train")
    captions = list(chain.from_iterable(own for _, own in usable_captions(dataset, find_columns(dataset))))
    model = AutoModel.from_pretrained(args.text_encoder, dtype=torch.float32).train()
    tokenizer = AutoTokenizer.from_pretrained(args.text_encoder)
    figures = {}
    for size in args.batch_sizes:
        chosen = (torch.randint(len(captions), (size,)).tolist() for _ in range(args.warmup_rounds + args.rounds))
        texts = [[captions[index] for index in indices] for indices in chosen]
        batches = [tokenizer(batch, padding=True, truncation=True, return_tensors="pt") for batch in texts]
        figures[size] = {"tokens_left": round(tokens_left(batches), 3)}
        figures[size] |= {precision: measure(model, batches, precision, args.warmup_rounds) for precision in precisions}
        print(size, figures[size], flush=True)
    output = args.output_json or RESULTS / f"text_encoder_speed{'_avx2' if args.avx2 else ''}.json"
    save({"batch_sizes": figures, "load_average_before": load_average}, output, args.seed, CPU)


if __name__ == "__main__":
    main()
