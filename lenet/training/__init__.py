"""Training: a recipe in, a run folder out.

recipe, recipes: what fixes a run; train: from a recipe to a run; run: the folder; epochs, passes:
minibatches, or one pattern at a time as in 1998; engines: what executes steps; schedule, teachers.
PyTorch is imported by autograd* and distributed alone. Imports data, networks, engine, evaluation.
"""
