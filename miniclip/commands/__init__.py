"""What the scripts do, as Python functions with the same names and defaults.

May import every other room.
"""
