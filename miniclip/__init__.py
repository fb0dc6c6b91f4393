"""Training and evaluation code that MiniCLIP's scripts share, one idea a file."""
