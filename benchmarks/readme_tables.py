"""Write the figures of benchmarks/results into the README, between `<!-- NAME -->` and `<!-- /NAME -->`.

python benchmarks/readme_tables.py [--check]
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
ORIGINAL_LOSS = 2.7289  # as published by the original's authors, at batch 64


def flickr8k() -> str:
    """Retrieval and zero-shot figures of every Flickr8k run."""
    lines = [
        "| encoders | image to text R@1 / 5 / 10 | text to image R@1 / 5 / 10 | zero-shot accuracy | minutes |",
        "|---|---|---|---|---|",
    ]
    notes = []
    for file in sorted(RESULTS.glob("flickr8k_*.json")):
        run = json.loads(file.read_text())
        retrieval = run["retrieval"]
        cells = [f"{run['image_encoder']} + {run['text_encoder']}"]
        for way in ("image_to_text", "text_to_image"):
            low, high = retrieval["intervals"][f"{way}_recall@1"]
            recalls = " / ".join(f"{100 * retrieval[f'{way}_recall@{k}']:.1f}" for k in (1, 5, 10))
            cells.append(f"{recalls} ({100 * low:.1f} to {100 * high:.1f})")
        cells.append(", ".join(f"{name} {100 * z['accuracy']:.1f}" for name, z in run["zero_shot_sets"].items()))
        cells.append(f"{run['training_minutes']:.0f}")
        lines.append("| " + " | ".join(cells) + " |")
        notes.append(
            f"`{file.stem}`: final training loss at batch 64 {run['final_train_loss_at_batch_64']:.4f} (the original "
            f"reports {ORIGINAL_LOSS}); {run['pairs_per_s'][-1]:.0f} pairs/s in the last stage; seed {run['seed']}, "
            f"commit {run['git_commit'][:12]}, {run['machine']}; `{run['command']}`"
        )
    explained = "Per cent; in brackets the 95 % bootstrap interval of R@1."
    return "\n".join([*lines, "", explained, "", *(f"- {note}" for note in notes)])


def shapes() -> str:
    """Zero-shot accuracy of `make train`."""
    run = json.loads((RESULTS / "shapes.json").read_text())
    low, high = run["interval"]
    accuracy = (
        f"{100 * run['accuracy']:.1f} % ({100 * low:.1f} to {100 * high:.1f}), chance {100 * run['chance']:.0f} %"
    )
    speed = f"{60 * run['training_minutes']:.0f} s of training at {run['pairs_per_s']:.0f} pairs/s"
    return (
        f"`make train`: zero-shot accuracy on the {run['num_classes']} colour-shape combinations that training never "
        f"shows: {accuracy}; {speed}; seed {run['seed']}, commit {run['git_commit'][:12]}, {run['machine']}"
    )


TABLES = {"flickr8k": flickr8k, "shapes": shapes}


def main() -> None:
    readme = ROOT / "README.md"
    old = text = readme.read_text()
    for name, table in TABLES.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        text = re.sub(pattern, lambda match, table=table: f"{match[1]}{table()}\n{match[2]}", text, flags=re.DOTALL)
    if "--check" in sys.argv and text != old:
        sys.exit("README.md is behind benchmarks/results: run python benchmarks/readme_tables.py")
    readme.write_text(text)


if __name__ == "__main__":
    main()
