"""Estimate time, memory, disk space and money for larger datasets, and write the tables of docs/scaling.md.

    python benchmarks/scaling_estimates.py --measure    # work, memory and decoding speed of this code, then the tables
    python benchmarks/scaling_estimates.py [--check]    # the tables only, from benchmarks/results

If benchmarks/gpu_speed.py has measured a GPU (`benchmarks/results/gpu_speed*.json`), its speed is used for that GPU and
these encoders. Every other speed is an estimate: the arithmetic of the model, divided by the published peak of the GPU
and an assumed utilisation.
"""

import argparse
import io
import itertools
import json
import math
import platform
import sys
import time
from dataclasses import dataclass, replace

import torch
from flickr8k_table import NAMES, encoder, quickest, reference_runs
from readme_tables import RESULTS, ROOT, fill_in

sys.path.insert(0, str(ROOT))

COSTS = RESULTS / "model_costs.json"
IMAGE_SIZE, TOKENS = 224, 20  # captions of Flickr30k have 12 words, or 15 tokens; the longest of a batch has about 20
PASSES = 10
JOINT_BATCH, CHUNK = 4096, 128
CACHED_BYTES = 3 * IMAGE_SIZE**2  # decoded images are kept as bytes
SCALING_EFFICIENCY = 0.9  # assumed: speed of 8 GPUs in one machine, relative to 8 times one GPU
# Assumed share of the published peak. Memory traffic limits convolutions at 224 px, and arithmetic limits transformers.
UTILISATION = {"convolutions": 0.10, "transformers": 0.30}
FLOATS_PER_WEIGHT = 4  # float32 weight, gradient and AdamW's two moments


@dataclass(frozen=True)
class DatasetSize:
    """Number of training images, bytes to download, and the source of both."""

    name: str
    images: int
    download_bytes: float
    source: str
    streamed: bool = False


@dataclass(frozen=True)
class Machine:
    """A rented machine: dense half-precision peak in FLOP/s and memory in bytes of each GPU, and the price per hour."""

    name: str
    gpu: str
    gpus: int
    peak_flops: float
    memory_bytes: float
    cores: int
    dollars_per_hour: float


DATASETS = (
    DatasetSize("Flickr30k", 29_000, 4.31e9, "card of umaru97/flickr30k_train_val_test"),
    DatasetSize("MS-COCO", 82_783, 14.6e9, "files of clip-benchmark/wds_mscoco_captions"),
    DatasetSize(
        "CC3M", 2_905_954, 2_905_954 * 96_675, "card of pixparse/cc3m-wds; 96.7 kB an image in its first file", True
    ),
    DatasetSize(
        "CC12M", 10_968_539, 10_968_539 * 96_675, "index of pixparse/cc12m-wds; size an image as in CC3M", True
    ),
)
SIZES_READ = "November 2026"

# Peaks: NVIDIA's data sheets (T4: 65 TFLOP/s fp16; H200 SXM: 989 TFLOP/s bf16 without sparsity).
# Prices: Hugging Face, T4 small of Spaces (docs/hub/spaces-gpus) and aws nvidia-h200 x1 and x8 of Inference Endpoints
# (docs/inference-endpoints/pricing). H200 cores: a share of the 192 of aws p5en.48xlarge.
PRICES_READ = "November 2026"
MACHINES = (
    Machine("one T4", "T4", 1, 65e12, 16e9, 4, 0.40),
    Machine("one H200", "H200", 1, 989e12, 141e9, 24, 5.00),
    Machine("8 H200", "H200", 8, 989e12, 141e9, 192, 40.00),
)
GPUS = sorted({machine.gpu for machine in MACHINES})
PAIRS = {
    "ResNet18 + DistilBERT": ("resnet18", "distilbert"),
    "ResNet50 + DistilBERT": ("resnet50", "distilbert"),
    "ViT-Base/16 + BERT-base": ("vit_base_patch16_224", "bert"),
}
# Teachers as transformers builds them: google/siglip2-base-patch16-224, whose texts are all padded to 64 tokens, and
# openai/clip-vit-large-patch14.
TEACHERS: dict[str, tuple[str, dict, int]] = {
    "SigLIP 2, ViT-Base/16": ("siglip", {"text_config": {"vocab_size": 256_000}}, 64),
    "CLIP, ViT-Large/14": (
        "clip",
        {
            "vision_config": {
                "hidden_size": 1024,
                "intermediate_size": 4096,
                "num_hidden_layers": 24,
                "num_attention_heads": 16,
                "patch_size": 14,
            },
            "text_config": {
                "hidden_size": 768,
                "intermediate_size": 3072,
                "num_hidden_layers": 12,
                "num_attention_heads": 12,
            },
            "projection_dim": 768,
        },
        TOKENS,
    ),
}
TAUGHT = (("MS-COCO", 5), ("CC3M", 1))  # with the number of captions of an image
CROPS = 8


# Measuring


def measure() -> dict:
    """Measure arithmetic, weights and activations of the encoders, and the decoding speed of one core."""
    return {
        "models": {name: model_costs(*encoders) for name, encoders in PAIRS.items()},
        "teachers": {name: teacher_costs(*teacher) for name, teacher in TEACHERS.items()},
        "decoded_images_per_s_and_core": decoding_speed(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
    }


def model_costs(image_encoder: str, text_encoder: str, pairs: int = 4) -> dict:
    """
    Costs of a model. It is untrained, because its weights do not matter here.

    Returns:
        `image_flops`, `text_flops`: floating-point operations in a forward pass of one image and of one caption with
        its head, counted by torch (two per multiply-add); `weights`; `activation_bytes`: bytes that autograd stores
        for the backward pass of a pair in bfloat16 autocast.
    """
    from torch.utils.flop_counter import FlopCounterMode

    from modeling_miniclip import MiniCLIPModel

    model = MiniCLIPModel.from_encoders(image_encoder, text_encoder, pretrained=False).train()
    pixels = torch.zeros(pairs, 3, IMAGE_SIZE, IMAGE_SIZE)
    tokens = torch.full((pairs, TOKENS), 5)
    flops = []
    for inputs in ({"pixel_values": pixels}, {"input_ids": tokens}):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(**inputs)
        flops.append(counter.get_total_flops() / pairs)
    return {
        "image_flops": flops[0],
        "text_flops": flops[1],
        "convolutional": not image_encoder.startswith("vit"),
        "weights": sum(parameter.numel() for parameter in model.parameters()),
        "activation_bytes": saved_bytes(model, pixel_values=pixels, input_ids=tokens) / pairs,
    }


def teacher_costs(kind: str, settings: dict, tokens: int) -> dict:
    """`image_flops` and `text_flops` of a teacher's forward passes, and the `width` of its embeddings. Nothing is
    computed: its weights are on the `meta` device."""
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import AutoConfig, AutoModel

    with torch.device("meta"):
        model = AutoModel.from_config(AutoConfig.for_model(kind, **settings)).eval()
        inputs = {
            "image": {"pixel_values": torch.zeros(1, 3, IMAGE_SIZE, IMAGE_SIZE)},
            "text": {"input_ids": torch.full((1, tokens), 5)},
        }
        costs = {}
        for part, tensors in inputs.items():
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                embeds = getattr(model, f"get_{part}_features")(**tensors)
            costs[f"{part}_flops"] = counter.get_total_flops()
    return costs | {"width": getattr(embeds, "pooler_output", embeds).shape[-1]}


def saved_bytes(model, **inputs) -> int:
    """Bytes that autograd stores in a forward pass. Each storage counts once, and weights do not count."""
    seen = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    total = 0

    def count(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal total
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            kept.append(tensor)  # keep it alive, so that no later tensor gets the same address
            total += storage.nbytes()
        return tensor

    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16):
        model(**inputs)
    return total


def decoding_speed(seconds: float = 3.0) -> float:
    """Images per second that one core decodes, crops and scales to 224 px, from JPEGs of 640 x 480 with much detail."""
    import numpy as np
    from PIL import Image

    from miniclip.data.image_cache import square_image

    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (60, 80, 3), np.uint8)).resize((640, 480), Image.BICUBIC)
    noise = random.normal(0, 8, (480, 640, 3))
    buffer = io.BytesIO()
    Image.fromarray((np.asarray(coarse) + noise).clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    square_image(buffer.getvalue(), IMAGE_SIZE)
    count, start = 0, time.process_time()
    while time.process_time() - start < seconds:
        square_image(buffer.getvalue(), IMAGE_SIZE)
        count += 1
    return count / (time.process_time() - start)


# Estimating


def measured_speeds() -> dict[str, tuple[float, str]]:
    """Pairs per second of ResNet18 + DistilBERT on one `T4` or `H200` in the faster precision, and the file's name."""
    found: dict[str, tuple[float, str]] = {}
    for file in sorted(RESULTS.glob("gpu_speed*.json")):
        run = json.loads(file.read_text())
        by_precision = [run[name]["full"]["pairs_per_s"] for name in ("fp16", "bf16") if name in run]
        found |= {gpu: (max(by_precision), file.name) for gpu in GPUS if by_precision and gpu in run["device"]}
    return found


def gpu_speed(costs: dict, machine: Machine) -> float:
    """Estimated pairs per second on one GPU. A training step takes as long as three forward passes (the backward pass
    counts as two), and the first pass of the gradient cache is a fourth."""
    kind = "convolutions" if costs["convolutional"] else "transformers"
    seconds = costs["image_flops"] / UTILISATION[kind] + costs["text_flops"] / UTILISATION["transformers"]
    return machine.peak_flops / (4 * seconds)


def speed(name: str, costs: dict, machine: Machine) -> tuple[float, bool]:
    """Pairs per second of all GPUs of a machine, and whether the speed of one GPU was measured."""
    measured = measured_speeds().get(machine.gpu) if name == "ResNet18 + DistilBERT" else None
    single = measured[0] if measured else gpu_speed(costs, machine)
    return single * (1 if machine.gpus == 1 else machine.gpus * SCALING_EFFICIENCY), measured is not None


def hours(dataset: DatasetSize, pairs_per_s: float, machine: Machine, decoded_per_core: float) -> tuple[float, bool]:
    """Hours of training, and whether decoding is the bottleneck. A stream is decoded in every pass, other data once."""
    decoding = decoded_per_core * machine.cores
    computing = dataset.images * PASSES / pairs_per_s
    if dataset.streamed:
        return max(computing, dataset.images * PASSES / decoding) / 3600, decoding < pairs_per_s
    return (computing + dataset.images / decoding) / 3600, False


def memory_bytes(costs: dict, chunk: int = CHUNK) -> float:
    """Memory of one GPU: weights, gradient and optimiser state, activations of a chunk, logits of the joint batch."""
    logits = 3 * JOINT_BATCH**2 * 4
    return costs["weights"] * 4 * FLOATS_PER_WEIGHT + costs["activation_bytes"] * chunk + logits


# Tables


def rough(value: float, unit: str = "") -> str:
    """Round to two significant figures: estimates deserve no more."""
    rounded = float(f"{value:.1e}")
    digits = max(0, 1 - math.floor(math.log10(rounded))) if rounded > 0 else 0
    return f"{rounded:,.{digits}f}{unit}"


def duration(hours_: float) -> str:
    if hours_ < 1:
        return rough(60 * hours_, " min")
    return rough(hours_, " h") if hours_ < 48 else rough(hours_ / 24, " days")


def time_and_money(results: dict) -> str:
    """One row per dataset and pair of encoders, and one column per machine."""
    lines = ["| dataset | encoders | " + " | ".join(machine.name for machine in MACHINES) + " |"]
    lines.append("|---|---|" + "---|" * len(MACHINES))
    for dataset in DATASETS:
        for name in ("ResNet18 + DistilBERT", "ViT-Base/16 + BERT-base"):
            cells = []
            for machine in MACHINES:
                pairs_per_s, _ = speed(name, results["models"][name], machine)
                took, decoding = hours(dataset, pairs_per_s, machine, results["decoded_images_per_s_and_core"])
                star = "*" if decoding else ""
                cells.append(f"{duration(took)}{star}, ${rough(took * machine.dollars_per_hour)}")
            lines.append(f"| {dataset.name} | {name} | " + " | ".join(cells) + " |")
    note = (
        f"{PASSES} passes over the training images. *: limited by decoding JPEGs on the CPU, not by the GPU. Prices "
        f"are from {PRICES_READ}."
    )
    return "\n".join([*lines, "", note])


def speeds(results: dict) -> str:
    """Pairs per second, measured or estimated, and memory."""
    header = ["encoders", "weights", "GFLOP per pair", *(f"{m.name}, pairs/s" for m in MACHINES), "memory per GPU"]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for name, costs in results["models"].items():
        cells = [name, rough(costs["weights"] / 1e6, " million")]
        cells.append(rough((costs["image_flops"] + costs["text_flops"]) / 1e9))
        for machine in MACHINES:
            pairs_per_s, measured = speed(name, costs, machine)
            kind = "measured" if measured else "estimated"
            if measured and machine.gpus > 1:
                kind = "from the measured speed of one"
            cells.append(f"{rough(pairs_per_s)} ({kind})")
        lines.append("| " + " | ".join([*cells, rough(memory_bytes(costs) / 1e9, " GB")]) + " |")
    missing = [gpu for gpu in GPUS if gpu not in measured_speeds()]
    note = (
        f"GFLOP: one forward pass, counted by torch at {IMAGE_SIZE} px and {TOKENS} tokens. Memory: estimated for a "
        f"joint batch of {JOINT_BATCH:,} pairs in chunks of {CHUNK}; a T4 has {MACHINES[0].memory_bytes / 1e9:.0f} GB, "
        f"an H200 {MACHINES[1].memory_bytes / 1e9:.0f}. Estimated speeds assume "
        f"{UTILISATION['convolutions']:.0%} of the card's published half-precision peak in convolutions and "
        f"{UTILISATION['transformers']:.0%} in transformers, 4 forward passes per step (gradient cache) and "
        f"{SCALING_EFFICIENCY:.0%} efficiency on 8 GPUs."
    )
    if missing:
        note += f" Not measured yet: {', '.join(missing)}."
    return "\n".join([*lines, "", note])


def teachers(results: dict) -> str:
    """What a teacher adds to the training of ResNet18 + DistilBERT, and the two together."""
    machines = [machine for machine in MACHINES if machine.gpus == 1]
    header = ["dataset", "teacher", *(f"{machine.name}, teacher + training" for machine in machines)]
    header += ["embeddings on disk", f"with {CROPS} crops"]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for (dataset, captions), (name, costs) in itertools.product(TAUGHT, results["teachers"].items()):
        size = next(each for each in DATASETS if each.name == dataset)
        cells = []
        for machine in machines:
            parts = teaching_hours(size, captions, costs, results, machine)
            cells.append(f"{' + '.join(map(duration, parts))}, ${rough(sum(parts) * machine.dollars_per_hour)}")
        for crops in (1, CROPS):
            cells.append(rough(size.images * (crops + captions) * costs["width"] * 2 / 1e9, " GB"))
        lines.append(f"| {dataset} | {name} | " + " | ".join(cells) + " |")
    stored = DATASETS[2].download_bytes * 2 + DATASETS[2].images * CACHED_BYTES
    note = (
        f"Estimated. The teacher embeds every image and caption once, with {UTILISATION['transformers']:.0%} of the "
        f"card's published peak, or as fast as the CPU decodes. {CROPS} crops take it {CROPS} times as long for the "
        f"images. Training has {PASSES} passes and takes the memory of the student alone. A dataset with a teacher is "
        f"not streamed: CC3M takes {rough(stored / 1e12, ' TB')} on disk."
    )
    return "\n".join([*lines, "", note])


def teaching_hours(
    dataset: DatasetSize, captions: int, teacher: dict, results: dict, machine: Machine
) -> tuple[float, float]:
    """Hours of the teacher's pass, and of training ResNet18 + DistilBERT on images that are decoded once."""
    name, decoded = "ResNet18 + DistilBERT", results["decoded_images_per_s_and_core"]
    work = dataset.images * (teacher["image_flops"] + captions * teacher["text_flops"])
    embedding = work / (machine.peak_flops * UTILISATION["transformers"])
    embedding = max(embedding, dataset.images / (decoded * machine.cores))
    pairs_per_s, _ = speed(name, results["models"][name], machine)
    return embedding / 3600, hours(replace(dataset, streamed=False), pairs_per_s, machine, decoded)[0]


def disk(results: dict) -> str:
    """What is downloaded and what is stored."""
    lines = ["| dataset | training images | download | on disk | source |", "|---|---|---|---|---|"]
    for dataset in DATASETS:
        # Archives or parquet files in the Hub's cache, their arrow copy, and decoded images.
        stored = 2 * dataset.download_bytes + dataset.images * CACHED_BYTES
        kept = "nothing (streamed)" if dataset.streamed else rough(stored / 1e9, " GB")
        lines.append(
            f"| {dataset.name} | {dataset.images:,} | {rough(dataset.download_bytes / 1e9, ' GB')} | {kept} | "
            f"{dataset.source} |"
        )
    stored = DATASETS[2].download_bytes * 2 + DATASETS[2].images * CACHED_BYTES
    note = (
        f"On disk: the Hub's cache, its arrow copy, and decoded images of {IMAGE_SIZE} px ({CACHED_BYTES:,} bytes; "
        f"none with --cache_dir none). CC3M without streaming would take {rough(stored / 1e12, ' TB')}. A stream is "
        f"downloaded again in every pass unless its archives are stored first. Sizes are from {SIZES_READ}."
    )
    return "\n".join([*lines, "", note])


def measured_here(results: dict) -> str:
    """The project's own measurements."""
    lines = []
    for name, runs in reference_runs().items():
        run = quickest(runs)
        pairs_per_s = run["pairs_per_s"][-1]
        lines.append(
            f"- {NAMES.get(name, name)}, {encoder(runs, 'image')} + {encoder(runs, 'text')}: {pairs_per_s:.0f} pairs/s "
            f"on {run['machine']}; {PASSES} passes over Flickr30k would take "
            f"{duration(DATASETS[0].images * PASSES / pairs_per_s / 3600)}."
        )
    if (RESULTS / "training_speed.json").is_file():
        run = json.loads((RESULTS / "training_speed.json").read_text())
        pairs_per_s = run["ours"]["pairs_per_s"]
        lines.append(f"- ResNet18 + a small DistilBERT, both trained: {pairs_per_s:.0f} pairs/s on {run['machine']}.")
    lines.append(
        f"- Decoding, cropping and scaling a 640 x 480 JPEG: {results['decoded_images_per_s_and_core']:.0f} images/s "
        f"per core on {results['machine']}."
    )
    for gpu, (pairs_per_s, file) in sorted(measured_speeds().items()):
        lines.append(f"- ResNet18 + DistilBERT on one {gpu}: {pairs_per_s:,.0f} pairs/s (`{file}`).")
    return "\n".join(lines)


TABLES = {
    "speeds": speeds,
    "time_and_money": time_and_money,
    "teachers": teachers,
    "disk": disk,
    "measured": measured_here,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="measure this code on this machine first")
    parser.add_argument("--check", action="store_true", help="fail if the document is older than the results")
    options = parser.parse_args()
    if options.measure:
        COSTS.write_text(json.dumps(measure(), indent=1) + "\n")
    if not COSTS.is_file():
        sys.exit(f"{COSTS.relative_to(ROOT)} is missing: run python benchmarks/scaling_estimates.py --measure")
    results = json.loads(COSTS.read_text())
    tables = {name: lambda table=table: table(results) for name, table in TABLES.items()}
    fill_in(ROOT / "docs" / "scaling.md", tables, check=options.check)


if __name__ == "__main__":
    main()
