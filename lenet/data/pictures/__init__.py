"""From pictures of all kinds to the digit in them, in the form of MNIST.

decoding: files, read safely by Pillow; foreground: ink apart from paper; components: the ink that
is the digit; preprocess: 28x28 pixels, as the makers of MNIST made them. OpenCV does the image
processing.
"""
