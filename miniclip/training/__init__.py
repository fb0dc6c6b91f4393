"""From settings to a trained model: arguments, setup, losses, training loop, checkpoints and distributed training.

May import `utils`, `data`, `embeddings` and `evaluation`.
"""
