"""Networks: one description of each, and what follows from it.

architecture: the layers as data; codebook: the tables of 1998 as drawings; arithmetic: what each
layer computes; inspection: what it is and costs; checkpoint: trained networks on disk; primitives:
convolution and pooling from first principles, in PyTorch; torch: the networks as PyTorch modules,
which nothing else here imports. Imports no other room.
"""
