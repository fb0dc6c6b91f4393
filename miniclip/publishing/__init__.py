"""Model cards, their pictures, and uploads to the Hub.

May import `utils`, `data`, `page`, `evaluation` and `exporting`.
"""
