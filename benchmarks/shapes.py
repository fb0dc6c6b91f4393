"""Keep the figures of the last `make train` for the README.

make train && python benchmarks/shapes.py
"""

import json
import platform
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUN = ROOT / "runs" / "shapes"


def main() -> None:
    zero_shot = json.loads((RUN / "results.json").read_text())["zero_shot"]
    training = json.loads((RUN / "training_results.json").read_text())
    provenance = training["provenance"]
    figures = {
        "command": "make train",
        "seed": training["settings"]["seed"],
        "machine": f"{platform.machine()}, {provenance['device']}, {provenance['num_threads']} threads",
        "git_commit": provenance["git_commit"],
        "accuracy": zero_shot["accuracy"],
        "interval": zero_shot["intervals"]["accuracy"],
        "chance": zero_shot["chance"],
        "num_classes": zero_shot["num_classes"],
        "training_minutes": training["training_minutes"],
        "pairs_per_s": training["pairs_per_s"],
    }
    (ROOT / "benchmarks" / "results" / "shapes.json").write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
