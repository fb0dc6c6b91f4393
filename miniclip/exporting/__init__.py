"""The two towers as ONNX files, in float32 and int8.

May import `utils` and `data`.
"""
