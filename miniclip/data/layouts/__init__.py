"""Layouts: how people keep images with captions or labels, one file a family; each says whether it knows a folder."""
