"""From images and texts to unit vectors, in batches.

May import `utils` and `data`.
"""
