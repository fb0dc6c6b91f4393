"""`--doctor`: examines data, model and learning rates before a run.

May import `training` and what it imports.
"""
