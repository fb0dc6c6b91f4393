"""What every room needs: errors for users, the Hub, loading a model, and where a figure comes from.

Imports only the remote code (`*_miniclip.py`).
"""
