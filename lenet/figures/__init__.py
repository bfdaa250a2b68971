"""Figures: arrays, reports and networks in, matplotlib `Figure` out.

curves: training curves; evaluation: confusions, rejection, reliability, mistakes; images: sheets of
images and the steps of preprocessing; networks: what is inside a network; sweeps: trials of a
sweep; files: the figures of a run, drawn into its folder; style: the look of all.

May import every room but commands, and no PyTorch. Importing it does not import matplotlib.
"""
