"""Layouts: the ways in which people store images with captions or labels, one file for each family of layouts."""
