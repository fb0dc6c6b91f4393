"""How good a model is: retrieval, zero-shot accuracy, calibration, and the tables that show them.

May import `utils`, `data` and `embeddings`.
"""
