"""Reading: what a trained network makes of pictures.

prediction: one digit in a picture; reader: numbers, by a graph of segments and a network slid over
the line. Imports data, networks, engine and evaluation; neither figures
nor PyTorch.
"""
