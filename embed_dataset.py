r"""Embed all images of a dataset with MiniCLIP, into parquet files that any vector index reads.

    python embed_dataset.py --model_name_or_path runs/mine --dataset_name photos --output_dir embeddings
    accelerate launch embed_dataset.py --model_name_or_path OWNER/model --dataset_name 'shards/{00000..00331}.tar' \
        --streaming --output_dir embeddings --push_to_hub OWNER/embeddings

The same command continues after an interruption. Each row holds `id`, `embedding`, `captions` and `path`.
"""

import sys

from accelerate import PartialState

from miniclip.commands.embed import EmbedArguments, embed
from miniclip.training.launch import start_missing_processes
from miniclip.utils.arguments_parser import DataclassParser
from miniclip.utils.errors import UserError, exit_on_user_error

# Names from the other scripts, with the name of the setting here.
HINTS = {
    "model": "model_name_or_path",
    "data": "dataset_name",
    "dataset": "dataset_name",
    "output": "output_dir",
    "train_split": "split",
    "fp16": "mixed_precision",
    "hub_model_id": "push_to_hub",
    "shard_size": "rows_per_file",
}


@exit_on_user_error
def main() -> None:
    settings = DataclassParser([EmbedArguments], description=__doc__.split("\n")[0], hints=HINTS).parse(sys.argv[1:])
    for name in ("model_name_or_path", "dataset_name"):
        if settings[name] is None:
            raise UserError(f"give --{name}; see --help")
    start_missing_processes()
    embeddings = embed(**settings)
    PartialState().print(embeddings)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command continues")
