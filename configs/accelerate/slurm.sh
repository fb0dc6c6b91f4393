#!/bin/bash
# Train on several machines under Slurm, one launcher on each:
#   sbatch --nodes 4 configs/accelerate/slurm.sh configs/coco.yaml --output_dir runs/coco --checkpointing_steps 500
# Submit this from the repository's root, on storage that all nodes share. Five minutes before the time is up
# (--signal), the job puts itself back into the queue. It continues from its latest checkpoint when it starts again.
#SBATCH --job-name miniclip
#SBATCH --nodes 2
#SBATCH --ntasks-per-node 1
#SBATCH --gpus-per-node 8
#SBATCH --cpus-per-task 64
#SBATCH --time 24:00:00
#SBATCH --signal B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode append
#SBATCH --output miniclip-%j.log

set -euo pipefail

config=${ACCELERATE_CONFIG:-configs/accelerate/multi_node.yaml}
processes=$(( SLURM_NNODES * ${SLURM_GPUS_ON_NODE:-8} ))
main_node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$(( 20000 + SLURM_JOB_ID % 10000 ))

resume=()
if (( ${SLURM_RESTART_COUNT:-0} > 0 )); then
    resume=(--existing_run resume)
fi

trap 'scontrol requeue "$SLURM_JOB_ID"' USR1

# SLURM_NODEID differs between nodes, so the shells that srun starts on them must read it, and not this shell.
srun --kill-on-bad-exit=1 bash -c 'exec accelerate launch --machine_rank "$SLURM_NODEID" "$@"' launch \
    --config_file "$config" --num_machines "$SLURM_NNODES" --num_processes "$processes" \
    --main_process_ip "$main_node" --main_process_port "$port" \
    train_accelerate.py "$@" "${resume[@]}" &
wait $!
