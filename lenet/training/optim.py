"""Plain gradient descent, and the optimizer of the 1998 paper: stochastic diagonal
Levenberg-Marquardt (appendix C).

In the latter every parameter has a step size of its own, eta / (mu + h): small where the error is
curved. h is the diagonal of the Gauss-Newton approximation of the Hessian, estimated now and then
on a few hundred patterns; between estimates it is plain stochastic gradient descent.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from lenet.errors import LenetError
from lenet.networks.layers import EuclideanRBF, SquashedLayer, curvature_of_sum


class SGD(torch.optim.SGD):
    """torch.optim.SGD, with a short way to w <- w - lr dE/dw.

    With so few weights, what PyTorch does around that sum takes several times as long.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        if closure or not all(is_plain(group) for group in self.param_groups):
            return super().step(closure)
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            gradients = [p.grad for p in parameters]
            torch._foreach_add_(  # pyright: ignore[reportPrivateImportUsage]
                parameters, gradients, alpha=-group["lr"]
            )


def is_plain(group: dict[str, Any]) -> bool:
    """Whether a group of `torch.optim.SGD` has a learning rate that is a number, and no more."""
    return isinstance(group["lr"], float) and not (
        group["momentum"] or group["weight_decay"] or group["maximize"] or group["differentiable"]
    )


class StochasticDiagonalLM(torch.optim.Optimizer):
    """w <- w - eta / (mu + h) dE/dw (paper, eq. 18-19).

    Args:
        params: the parameters, or groups of them.
        lr: eta, the global learning rate.
        mu: keeps steps finite where the error is flat. The paper has 0.02.

    `set_curvature` gives h; there is no step before it.
    """

    def __init__(self, params: Any, lr: float, mu: float = 0.02) -> None:
        if not (lr > 0 and mu > 0):
            raise LenetError(f"lr and mu must be positive, not {lr} and {mu}")
        super().__init__(params, {"lr": lr, "mu": mu})

    def set_curvature(self, diagonal: Iterable[Tensor]) -> None:
        """Sets h, one tensor for each parameter, in their order; see `gauss_newton_diagonal`."""
        parameters = [p for group in self.param_groups for p in group["params"]]
        for parameter, h in zip(parameters, diagonal, strict=True):
            if h.shape != parameter.shape or not (h >= 0).all():
                raise LenetError("the curvature must be at least 0 and shaped like the parameters")
            self.state[parameter]["h"] = h.detach().to(parameter).clone()

    def step_sizes(self) -> list[Tensor]:
        """eta / (mu + h), one tensor for each parameter, in their order."""
        sizes = []
        for group in self.param_groups:
            for parameter in group["params"]:
                if "h" not in self.state[parameter]:
                    raise LenetError("call set_curvature before the first step")
                sizes.append(group["lr"] / (group["mu"] + self.state[parameter]["h"]))
        return sizes

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step along the gradients in `.grad`."""
        parameters = [p for group in self.param_groups for p in group["params"]]
        for parameter, size in zip(parameters, self.step_sizes(), strict=True):
            if parameter.grad is not None:
                parameter.addcmul_(size, parameter.grad, value=-1)


def gauss_newton_diagonal(
    model: nn.Sequential,
    x: Tensor,
    labels: Tensor,
    *,
    criterion: str = "map",
    j: float = 10.0,
    exact: bool = False,
) -> dict[str, Tensor]:
    """h of every trainable parameter, averaged over patterns (paper, eq. 20-27).

    Second derivatives run back layer by layer like first ones, each unit on its own: products
    between different units are left out, and so are those between the places that share a weight.
    A parameter's h is the sum over its connections (i, j) of d2E/da_i2 x_j^2. Where every
    parameter acts through one path only, this is the diagonal of J' H J.

    Args:
        model: squashed layers and an output: `LeNet5`, or another of the same kinds.
        x: prepared images (N, 1, 32, 32).
        labels: (N,) int64.
        criterion: "penalty" (8) or "map" (9) for the RBF head; the softmax head has cross-entropy.
        j: constant of criterion (9).
        exact: where the recursion starts with criterion (9): false takes d2E/dx2 = 2 for every
            unit of F6, as criterion (8) has it; true the exact value, which nearly vanishes for
            patterns that are answered with confidence.

    Returns:
        Parameter name -> h, of the parameter's shape.

    Raises:
        LenetError: a layer is of another kind.
    """
    *layers, (_, output) = model.named_children()
    inputs = []
    with torch.no_grad():
        for _, layer in layers:
            inputs.append(x)
            x = layer(x)
        curvature, h = output_curvature(output, x, criterion, j, exact)
    for (name, layer), x in zip(reversed(layers), reversed(inputs), strict=True):
        if not isinstance(layer, SquashedLayer):
            raise LenetError(f"no second derivatives through a {type(layer).__name__}")
        curvature, of_layer = layer.backpropagate_curvature(x, curvature)
        h |= {f"{name}.{parameter}": value for parameter, value in of_layer.items()}
    return {name: h[name] / len(labels) for name, _ in model.named_parameters()}


def output_curvature(
    output: nn.Module, features: Tensor, criterion: str, j: float, exact: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    """Where the recursion starts: d2E/dx2 of the features (N, F), and h of a linear output."""
    if isinstance(output, EuclideanRBF):
        if criterion == "map" and exact:
            return map_curvature(output, features, j), {}
        return torch.full_like(features, 2.0), {}
    if not isinstance(output, nn.Linear):
        raise LenetError(f"no second derivatives of an output of {type(output).__name__}")
    shares = output(features).softmax(dim=1)
    of_scores = shares - shares.square()  # of cross-entropy
    terms = features, output.weight, output.bias
    of_features, of_weight, of_bias = curvature_of_sum(nn.functional.linear, terms, of_scores)
    return of_features, {"output.weight": of_weight, "output.bias": of_bias}


def map_curvature(output: EuclideanRBF, x: Tensor, j: float) -> Tensor:
    """d2E/dx2 of criterion (9) for the features x (N, F) of one pattern each, exactly.

    With p_i the share of class i in e^-j + sum of e^-y, and p the rest, the rubbish class's share:
    2 p + 4 times the variance under these shares of x - code_i (0 for rubbish).
    """
    scores = output(x)
    rubbish = scores.new_full((len(x), 1), -j)
    shares = torch.cat([scores, rubbish], dim=1).softmax(dim=1)
    differences = x[:, None, :] - output.codes
    mean = torch.einsum("nc,ncf->nf", shares[:, :-1], differences)
    mean_square = torch.einsum("nc,ncf->nf", shares[:, :-1], differences.square())
    return 2 * shares[:, -1:] + 4 * (mean_square - mean.square()).clamp(min=0)
