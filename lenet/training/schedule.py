"""Learning rates over a run."""

import math

from lenet.training.recipe import Optimisation

STAGES_1998 = {1: 1.0, 3: 0.4, 6: 0.2, 9: 0.1, 13: 0.02}  # from pass -> share of eta (appendix C)


def learning_rate(how: Optimisation, step: int, steps: int) -> float:
    """Learning rate of a step, numbered from 0, of `steps` in all."""
    warm = how.warmup * steps
    if step < warm:
        return how.lr * (step + 1) / (warm + 1)
    epoch = 1 + step * how.epochs // steps
    return how.lr * share(how, (step - warm) / (steps - warm), epoch)


def share(how: Optimisation, done: float, epoch: int) -> float:
    """Share of the highest learning rate after a part of the run (0..1), in an epoch from 1."""
    match how.schedule:
        case "linear":
            return 1 - done
        case "cosine":
            return (1 + math.cos(math.pi * done)) / 2
        case "1998":
            return next(s for first, s in reversed(STAGES_1998.items()) if epoch >= first)
    return 1.0
