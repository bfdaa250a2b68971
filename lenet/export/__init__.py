"""Trained networks for other software: ONNX, safetensors, and C99 for small devices.

`onnx`, `tensors` and `c` write one format each, and check at once that the result answers as the
network does.
"""
