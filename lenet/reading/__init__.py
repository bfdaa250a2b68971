"""From a picture to the digit in it.

`preprocess` makes 28x28 pixels of any picture (`foreground`: ink and paper; `components`: which ink
is the digit), and `prediction` has the `Predictor`, which gives them to a network. Imports data,
networks, engine and evaluation; never PyTorch, figures or a surface.
"""
