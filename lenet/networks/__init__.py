"""Networks: one description of each, and all that follows from it.

architecture: the layers as data; codebook: the tables of 1998 as drawings; arithmetic: what each
layer computes; inspection: what it is and costs; checkpoint: trained networks on disk; primitives:
convolution and pooling from first principles. torch: the same as PyTorch modules, imported by
nothing else here. Imports no other room.
"""
