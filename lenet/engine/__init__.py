"""Engine: kernels in C++ (src/) and the NumPy that calls them; never PyTorch.

objective: what training makes small; plan: a network as the kernels see it; fused: batches;
single: one image; sequential: one pattern at a time, as in 1998; optimizers: how weights change;
scores: whatever serves here, kernels or NumPy. Imports data and networks.
"""
