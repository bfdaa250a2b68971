"""Engine: kernels in C++ (src/) and the NumPy that calls them; never PyTorch.

objective: what training minimises; plan: a network as the kernels see it; fused: batches; single:
one image; sequential: one pattern at a time, as in 1998; optimizers: how weights change; scores: by
the kernels or NumPy, whichever is available. Imports data and networks.
"""
