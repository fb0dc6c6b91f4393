"""Train MiniCLIP on images and captions, on a CPU, one GPU or several machines.

    accelerate launch train_accelerate.py configs/flickr8k.yaml
    accelerate launch train_accelerate.py configs/flickr8k.yaml --dataset_name my/photos --output_dir runs/mine
    accelerate launch --num_processes 2 --cpu train_accelerate.py configs/shapes.yaml
    python train_accelerate.py configs/flickr8k.yaml --doctor

YAML files give the settings, and the command line overrides them; --help explains each setting.
"""

import sys
from pathlib import Path

from accelerate import PartialState

from miniclip.commands.train import examine, run_stages
from miniclip.training.arguments import parse_arguments
from miniclip.training.launch import start_missing_processes
from miniclip.training.trainer import Interrupted
from miniclip.utils.errors import exit_on_user_error


@exit_on_user_error
def main() -> None:
    stages = parse_arguments()
    if stages[0].training.doctor:
        sys.exit(examine(stages, Path(stages[0].training.output_dir).expanduser()))
    start_missing_processes()
    try:
        trained = run_stages(stages)
    except Interrupted as interruption:
        print(interruption, file=sys.stderr)
        sys.exit(130)
    PartialState().print(trained)
    PartialState().destroy_process_group()


if __name__ == "__main__":
    main()
