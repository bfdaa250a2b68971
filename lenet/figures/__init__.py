"""Figures: arrays, reports and networks in, matplotlib `Figure` out.

curves: training curves; evaluation: confusions, rejection, reliability, mistakes; images: sheets of
images and the steps of preprocessing; networks, architecture: what is inside a network; numbers:
how numbers were read; sweeps: the trials of a sweep; files: the figures of a run, drawn into its
folder; style: the look of all. Its modules import matplotlib: import them where you draw.
"""
