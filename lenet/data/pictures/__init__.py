"""Pictures of all kinds, and the digit in them as MNIST has it.

`decoding` reads files safely, `foreground` separates ink from paper, `components` chooses the ink
that is the digit, and `preprocess` makes 28x28 pixels of it, as the makers of MNIST did. Pillow
decodes; OpenCV does the image processing.
"""
