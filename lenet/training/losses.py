"""What training makes small: each loss is a function of scores and labels."""

import torch
import torch.nn.functional as F
from torch import Tensor


def penalty(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean penalty of the right class: criterion (8) of the paper of 1998.

    Args:
        scores: (N, C), the penalties y with their sign changed.
        labels: (N,) int64.
    """
    return -scores.gather(1, labels[:, None]).mean()


def map_criterion(scores: Tensor, labels: Tensor, j: float = 10.0) -> Tensor:
    """Criterion (9) of the paper of 1998: mean of y_D + log(e^-j + sum over i of e^-y_i).

    It lowers the penalty of the right class D and raises those of the others: cross-entropy with
    one class more, "rubbish", whose penalty is always j. The paper gives no value for j.

    Args:
        scores: (N, C), the penalties y with their sign changed.
        labels: (N,) int64.
        j: penalty of the rubbish class. Wrong classes with a penalty well above j are left alone.
    """
    rubbish = scores.new_full((len(scores), 1), -j)
    return F.cross_entropy(torch.cat([scores, rubbish], dim=1), labels)


def cross_entropy(scores: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy of the softmax of the scores.

    Args:
        scores: (N, C).
        labels: (N,) int64.
        label_smoothing: share of each target that is spread evenly over all classes.
    """
    return F.cross_entropy(scores, labels, label_smoothing=label_smoothing)


def distillation(scores: Tensor, targets: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean of T^2 times the cross-entropy of softmax(scores / T) with the targets.

    T^2 keeps the gradients from shrinking with the temperature T (Hinton, Vinyals and Dean,
    "Distilling the knowledge in a neural network", 2015, section 2).

    Args:
        scores: (N, C).
        targets: (N, C), distributions over the classes: what teachers say at that temperature.
        temperature: T.
    """
    return temperature**2 * F.cross_entropy(scores / temperature, targets)


def one_hot_mse(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean over all N * C numbers of the squared difference of scores and one-hot targets.

    Args:
        scores: (N, C).
        labels: (N,) int64.
    """
    return F.mse_loss(scores, F.one_hot(labels, scores.shape[1]).to(scores.dtype))
