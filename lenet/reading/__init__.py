"""Reading pictures with trained networks: `prediction` has the `Predictor`, for one digit.

Imports data, networks, engine and evaluation; never PyTorch, figures or a surface.
"""
