"""From any dataset to batches: reading, splits, images, captions, augmentation and sampling.

May import `utils`.
"""
