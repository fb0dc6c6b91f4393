"""Tables of training: exactness of the gradient, speed, and cost as the dataset grows."""

import json
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results"

METHODS = {
    "naive": "the mean of the chunks' own losses",
    "two_pass": "two passes without correcting the temperature",
    "two_pass_new_dropout": "the same with new dropout in the second pass, as in open_clip 3.3",
    "ours": "ours",
}
WAYS = {
    "ours": "ours",
    "ours_progressive": "ours, images growing from 128 px to full size",
    "open_clip": "open_clip 3.3, 77 tokens a caption",
    "open_clip_context_32": "open_clip 3.3, 32 tokens a caption",
    "open_clip_equal_lengths": "open_clip 3.3, captions padded to the batch's longest",
    "plain_loop": "plain PyTorch loop, float32",
    "ours_locked": "ours, locked encoders, cached features",
}
RATIOS = {
    "ratio": "Ours is {:.2f} times as fast as open_clip at 77 tokens",
    "ratio_context_32": "{:.2f} times as fast as open_clip at 32 tokens",
    "ratio_equal_lengths": "{:.2f} times as fast as open_clip at equal lengths",
    "progressive_ratio": "with growing images {:.2f} times as fast as open_clip at 77 tokens",
    "progressive_ratio_equal_lengths": "with growing images {:.2f} times as fast as open_clip at equal lengths",
    "plain_ratio": "{:.2f} times as fast as the plain loop",
}


def read(name: str) -> dict:
    return json.loads((RESULTS / f"{name}.json").read_text())


def rows(header: list[str], body: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *body))


def origin(run: dict) -> str:
    return f"Seed {run['seed']}, commit {run['git_commit'][:12]}, {run['machine']}; `{run['command']}`"


def exactness() -> str:
    """Gradients of a batch in chunks against those of the undivided batch."""
    run, body = read("gradient_exactness"), []
    for precision in ("fp32", "bf16"):
        joint = run[precision]["joint"]
        cells = [precision, "one graph", "", "", "", f"{joint['peak_megabytes']:,.0f}", f"{joint['seconds']:.1f}"]
        body.append(cells)
        for method, words in METHODS.items():
            figures = run[precision][method]
            cells = [precision, words, f"{figures['cosine']:.6f}", f"{figures['relative_error']:.1e}"]
            cells += [f"{figures['logit_scale_ratio']:.4f}"]
            body.append([*cells, f"{figures['peak_megabytes']:,.0f}", f"{figures['seconds']:.1f}"])
    header = ["precision", "gradient from", "cosine", "relative error", "temperature gradient, ratio", "peak MB", "s"]
    memory, rounding = run["memory"], run["bf16_rounding"]
    note = (
        f"{run['pairs']} pairs in {run['num_chunks']} chunks, compared with one graph in the same precision and with "
        f"the same dropout masks. (One graph in bf16 differs from one in fp32 by {rounding['relative_error']:.1e}.) In "
        f"bf16, {memory['chunked_pairs']:,} pairs in chunks of {memory['chunk_size']} take "
        f"{memory['chunked_peak_megabytes']:,.0f} MB including their images, and {memory['one_graph_pairs']} pairs in "
        f"one graph take {memory['one_graph_peak_megabytes']:,.0f} MB. {origin(run)}"
    )
    return f"{rows(header, body)}\n\n{note}"


def speed() -> str:
    """Training speed of MiniCLIP and of other trainers, in bf16 and, once it has been measured, in float32."""
    names = ("training_speed", "training_speed_fp32")
    return "\n\n".join(_speed_in_one_precision(read(name)) for name in names if (RESULTS / f"{name}.json").is_file())


def _speed_in_one_precision(run: dict) -> str:
    precision, body = run.get("precision", "bf16"), []
    if run.get("avx2"):
        precision += ", AVX2 instructions only"
    for way, words in WAYS.items():
        if way in run:
            figures = run[way]
            spread = f"{figures['pairs_per_s']:,.1f}"
            if len(figures["rounds"]) > 1:
                spread += f" ({figures['lowest_pairs_per_s']:,.1f} to {figures['highest_pairs_per_s']:,.1f})"
            body.append([words, spread, f"{figures['peak_megabytes']:,.0f}"])
    ratios = [words.format(run[name]) for name, words in RATIOS.items() if name in run]
    number = len(run["ours"]["rounds"])
    rounds = f"Medians of {number} rounds" if number > 1 else "One round"
    note = (
        f"In {precision}. {rounds} in which every trainer runs once, at "
        f"batch {run['batch_size']} (locked: {run['locked_batch_size']}), including loading and augmentation. "
        f"{'; '.join(ratios)}. Training with locked encoders is {run['locked_ratio']:.0f} times as fast as full "
        f"training. {origin(run)}"
    )
    return f"{rows(['trainer', 'pairs/s', 'peak MB of the process'], body)}\n\n{note}"


def profile() -> str:
    """Shares of a training step's time by the kind of operator, in each precision that has been measured."""
    names = ("training_profile", "training_profile_fp32")
    runs = [read(name) for name in names if (RESULTS / f"{name}.json").is_file()]
    kinds = dict.fromkeys(kind for run in runs for kind in run["kinds"])
    body = [[kind, *(f"{run['kinds'].get(kind, 0):.1%}" for run in runs)] for kind in kinds]
    notes = (f"{run['precision']}: steps of {run['batch_size']} pairs. {origin(run)}" for run in runs)
    return f"{rows(['operators', *(run['precision'] for run in runs)], body)}\n\n{' '.join(notes)}"


def recall() -> str:
    """Time to the same validation recall."""
    run = read("time_to_recall")
    ours, rival = run["ours"], run["open_clip"]
    return (
        f"Starting from the same encoders, open_clip 3.3 reaches a validation recall of {100 * rival['recall']:.1f} % "
        f"(R@1, mean of both directions) in {rival['seconds'] / 60:.1f} minutes, one pass over all captions. MiniCLIP "
        f"with `{run['config']}` reaches {100 * ours['recall']:.1f} % in {ours['seconds'] / 60:.1f} minutes, including "
        f"decoding and cached features. {origin(run)}"
    )


def encoder() -> str:
    """Forward and backward passes of image encoders, with each change to PyTorch."""
    body, notes = [], []
    for name in ("image_encoder_speed", "image_encoder_speed_avx2"):
        if not (RESULTS / f"{name}.json").is_file():
            continue
        run = read(name)
        for encoder_name, measured in run["encoders"].items():
            for precision in ("fp32", "bf16"):
                if figures := measured.get(precision):
                    words = f"{precision}, AVX2 only" if name.endswith("_avx2") else precision
                    ratios = (figures[f"{ratio}_ratio"] for ratio in ("channels_last", "folded", "depthwise", "all"))
                    cells = [f"{1000 * figures[way]:,.0f}" for way in ("plain", "ours")]
                    body.append([encoder_name, words, *cells, *(f"{ratio:.2f}" for ratio in ratios)])
        notes.append(f"{run['batch_size']} images of {run['image_size']} px. {origin(run)}")
    header = ["encoder", "precision", "PyTorch, ms", "ours, ms", "channels last", "folding", "depthwise", "all three"]
    return f"{rows(header, body)}\n\nHow many times as fast a step gets by each change. {' '.join(notes)}"


def texts() -> str:
    """Forward and backward passes of a text encoder, with and without groups of similar length."""
    body, notes = [], []
    for name in ("text_encoder_speed", "text_encoder_speed_avx2"):
        if not (RESULTS / f"{name}.json").is_file():
            continue
        run = read(name)
        for size, measured in run["batch_sizes"].items():
            for precision in ("fp32", "bf16"):
                if figures := measured.get(precision):
                    words = f"{precision}, AVX2 only" if name.endswith("_avx2") else precision
                    cells = [f"{1000 * figures[way]:,.0f}" for way in ("whole", "grouped")]
                    body.append([size, words, f"{measured['tokens_left']:.0%}", *cells, f"{figures['ratio']:.2f}"])
        notes.append(origin(run))
    header = ["captions", "precision", "tokens left", "whole batch, ms", "in groups, ms", "times as fast"]
    return f"{rows(header, body)}\n\n{' '.join(notes)}"


def growth() -> str:
    """Time and memory as the dataset grows."""
    run, body = read("cost_growth"), []
    for way in ("mapped", "streaming"):
        for pairs, figures in run[way]["sizes"].items():
            cells = [way, f"{int(pairs):,}", f"{figures['microseconds_per_pair']:.0f}"]
            body.append([*cells, f"{figures['peak_megabytes']:,.0f}"])
    header = ["images", "pairs per epoch", "microseconds per pair", "memory, MB"]
    ratios = "; ".join(
        f"{way}: time per pair × {run[way]['time_ratio']:.2f}, memory × {run[way]['memory_ratio']:.2f}"
        for way in ("mapped", "streaming")
    )
    return f"{rows(header, body)}\n\nFrom the smallest dataset to the largest, {ratios}. {origin(run)}"


def gpu() -> str:
    """Training speed on a GPU."""
    run, body, together = read("gpu_speed"), [], []
    for precision in ("fp16", "bf16"):
        if precision in run:
            figures = run[precision]
            speeds = [f"{figures[way]['pairs_per_s']:,.0f}" for way in ("eager", "full", "data_only", "compute_only")]
            alone = min(figures[way]["pairs_per_s"] for way in ("data_only", "compute_only"))
            together.append(f"{figures['full']['pairs_per_s'] / alone:.0%}")
            used = figures["full"]["utilisation_percent"]
            busy = "" if used is None else f"{used:.0f} %"
            cells = [precision, *speeds, busy, f"{figures['compute_only']['teraflops']:.0f}"]
            body.append([*cells, f"{figures['full']['peak_megabytes']:,}", figures["bottleneck"]])
    header = [
        "precision",
        "pairs/s",
        "pairs/s, compiled",
        "data alone",
        "computing alone",
        "GPU busy",
        "TFLOP/s",
        "peak MB",
        "bottleneck",
    ]
    ((precision, trained),) = run["accumulation"].items()
    note = (
        f"Batch {run['batch_size']}. Training reaches {' and '.join(together)} of the speed of its bottleneck alone "
        f"(data or computing). With {precision} and gradient accumulation ({trained['joint_batch_size']} pairs in 4 "
        f"chunks), the loss falls from {trained['first_loss']:.3f} to {trained['last_loss']:.3f} in "
        f"{trained['steps']} steps. {origin(run)}"
    )
    return f"{rows(header, body)}\n\n{note}"


TABLES = {
    "exactness": (exactness, "gradient_exactness.json"),
    "speed": (speed, "training_speed.json"),
    "profile": (profile, "training_profile*.json"),
    "recall": (recall, "time_to_recall.json"),
    "encoder": (encoder, "image_encoder_speed.json"),
    "texts": (texts, "text_encoder_speed.json"),
    "growth": (growth, "cost_growth.json"),
    "gpu": (gpu, "gpu_speed.json"),
}
