"""Reading: what a trained network makes of pictures.

prediction: one digit in a picture. Imports data, networks, engine and evaluation; neither figures
nor PyTorch.
"""
