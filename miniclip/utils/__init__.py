"""What every room needs: errors for users, the Hub, loading a model, and the origin of a figure.

Imports only the remote code (`*_miniclip.py`).
"""
