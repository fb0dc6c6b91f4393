"""Training and evaluation code that MiniCLIP's scripts share, one idea a file."""

__version__ = "1.0.0"
