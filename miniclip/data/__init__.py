"""From whatever a person points at to batches: reading, splits, images, captions, augmentation and order.

May import `utils`.
"""
