"""From settings to a trained model: arguments, setup, losses, the loop, checkpoints and many processes.

May import `utils`, `data`, `embeddings` and `evaluation`.
"""
