r"""Evaluate MiniCLIP or another dual encoder: retrieval on captioned images, zero-shot classification on labelled ones.

    python evaluate_miniclip.py --model_name_or_path runs/flickr8k --dataset_name jxie/flickr8k \
        --zero_shot_dataset uoft-cs/cifar10 --output_json results.json

The JSON holds fractions (`retrieval.image_to_text_recall@1`, `zero_shot.accuracy`, ...), and the printed table shows
percentages. Writing it to `results.json` in the model's folder also updates the model card, `README.md`. With
`--compare_with`, more models are evaluated in the same way, such as `openai/clip-vit-base-patch32`.
"""

import sys
from pathlib import Path

from miniclip.commands.evaluate import EvaluationArguments, belong_to_model, evaluate
from miniclip.publishing.card import CARD_FILE
from miniclip.utils.arguments_parser import DataclassParser
from miniclip.utils.errors import exit_on_user_error

# Names from training and from other programs, with the name of the setting here.
HINTS = {
    "model": "model_name_or_path",
    "models": "compare_with",
    "compare": "compare_with",
    "dataset": "dataset_name",
    "data": "dataset_name",
    "train_split": "split",
    "validation_split": "split",
    "labels": "label_column",
    "imagenet_val": "zero_shot_dataset",
    "per_device_eval_batch_size": "batch_size",
    "bf16": "mixed_precision",
    "fp16": "mixed_precision",
    "workers": "num_workers",
    "dataloader_num_workers": "num_workers",
    "output": "output_json",
    "output_dir": "output_json",
}


@exit_on_user_error
def main() -> None:
    parser = DataclassParser([EvaluationArguments], description=__doc__.split("\n")[0], hints=HINTS)
    args = EvaluationArguments(**parser.parse(sys.argv[1:]))
    print(f"\n{evaluate(**vars(args))}")
    if args.output_json:
        print(f"\nwritten to {args.output_json}")
        if belong_to_model(args):
            print(f"model card: {Path(args.model_name_or_path) / CARD_FILE}")


if __name__ == "__main__":
    main()
