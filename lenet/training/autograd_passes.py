"""Training one pattern at a time by PyTorch: slow, for what the native module does not serve.

And the second derivatives of the 1998 paper (appendix C) for any network of squashed layers.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lenet.engine.fused import flatten
from lenet.engine.objective import Objective
from lenet.engine.sequential import Criterion, Flat, Images, Numbers, check
from lenet.errors import LenetError
from lenet.networks.architecture import Architecture
from lenet.networks.arithmetic import AMPLITUDE, STEEPNESS
from lenet.networks.torch import (
    EuclideanRBF,
    Subsampling,
    Units,
    WiredConv2d,
    from_architecture,
)
from lenet.training.autograd import cpu_threads, loss_of, map_criterion, penalty
from lenet.training.engines import by_name

BIPOLAR = Objective(loss="mse-bipolar")


class Patterns:
    """The same as `lenet.engine.sequential.Patterns`, for any network of squashed layers."""

    def __init__(self, architecture: Architecture, weights: Flat, criterion: Criterion) -> None:
        arrays = by_name(architecture, weights)
        self.architecture, self.criterion = architecture, criterion
        self.model = from_architecture(architecture, arrays)
        for parameter, array in zip(self.model.parameters(), arrays.values(), strict=True):
            parameter.data = torch.from_numpy(array)  # the caller's memory

    def train(
        self, images: Images, labels: Numbers, order: Numbers, step_sizes: Flat
    ) -> tuple[float, int]:
        check(images, labels, order)
        parameters = list(self.model.parameters())
        sizes = list(map(torch.from_numpy, by_name(self.architecture, step_sizes).values()))
        x, targets = self.model.prepare(images[order]), torch.from_numpy(labels[order])
        total, errors = 0.0, 0
        with cpu_threads(1):  # several threads would only wait for each other
            for pattern, target in zip(x.split(1), targets.split(1), strict=True):
                scores = self.model(pattern)
                loss = self.loss(scores, target)
                gradients = torch.autograd.grad(loss, parameters)
                with torch.no_grad():
                    for parameter, size, gradient in zip(parameters, sizes, gradients, strict=True):
                        parameter.addcmul_(size, gradient, value=-1)
                total += loss.item()
                errors += int(scores.argmax(dim=1).item() != target.item())
                if not np.isfinite(total):
                    raise LenetError("training diverged: lower lr or raise mu")
        return total, errors

    def loss(self, scores: Tensor, target: Tensor) -> Tensor:
        output = self.model.get_submodule("output")
        if isinstance(output, Units):
            return loss_of(BIPOLAR, scores, target, None)
        if not isinstance(output, EuclideanRBF):
            return F.cross_entropy(scores, target)
        if self.criterion.competitive:
            return map_criterion(scores, target, self.criterion.j)
        return penalty(scores, target)

    def curvature(self, images: Images, labels: Numbers, order: Numbers) -> Flat:
        check(images, labels, order)
        x = self.model.prepare(images[order])
        h = gauss_newton_diagonal(self.model, x, self.criterion)
        return flatten(value.numpy() for value in h.values())


def curvature_of_sum(
    weighted_sum: Callable[..., Tensor], terms: Sequence[Tensor], of_sums: Tensor
) -> tuple[Tensor, ...]:
    """Propagates second derivatives from weighted sums a = sum of u x + b back to u, x and b.

    The paper's recursion (eq. 22, 25-27) says h_u = sum of d2E/da2 x^2 over the connections that
    share u, d2E/dx2 = sum of u^2 d2E/da2 and h_b = sum of d2E/da2. These are the first derivatives
    of the same weighted sum taken of squared values, so autograd does it for any linear layer.

    Args:
        weighted_sum: gives the sums from `terms`, and is linear in each of them.
        terms: inputs, weights and bias.
        of_sums: d2E/da2, of the shape of the sums.

    Returns:
        d2E with respect to each of the terms, of their shapes.
    """
    with torch.enable_grad():
        squares = [term.detach().square().requires_grad_() for term in terms]
        return torch.autograd.grad(weighted_sum(*squares), squares, of_sums)


def backpropagate_curvature(
    layer: Units, x: Tensor, curvature: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Gauss-Newton second derivatives, one layer of scaled-tanh units back (paper, eq. 22-27).

    Args:
        x: the layer's input (N, ...).
        curvature: d2E/df2 of the layer's output, of its shape.

    Returns:
        d2E/dx2, and by parameter name the sum of h over the N patterns.
    """
    with torch.no_grad():
        slope = AMPLITUDE * STEEPNESS - (STEEPNESS / AMPLITUDE) * layer(x).square()
        of_sums = curvature * slope.square()
    names, parameters = zip(*layer.named_parameters(), strict=True)
    of_input, *h = curvature_of_sum(layer.weighted_sum, (layer.gather(x), *parameters), of_sums)
    if isinstance(layer, Subsampling):
        of_input = layer.share**2 * F.interpolate(of_input, scale_factor=2)
        if (sources := layer.sources) is not None:  # several maps may pool the same one
            of_input = torch.zeros_like(x).index_add(1, torch.tensor(sources), of_input)
    elif isinstance(layer, WiredConv2d) and (p := layer.layer.padding):
        of_input = of_input[:, :, p:-p, p:-p]
    return of_input.reshape(x.shape), dict(zip(names, h, strict=True))


def gauss_newton_diagonal(
    model: nn.Sequential, x: Tensor, criterion: Criterion
) -> dict[str, Tensor]:
    """h of every trainable parameter, averaged over patterns (paper, eq. 20-27).

    Second derivatives run back layer by layer like first ones, each unit on its own: products
    between different units are left out, and so are those between the places that share a weight.
    A parameter's h is the sum over its connections (i, j) of d2E/da_i2 x_j^2. Where every
    parameter acts through one path only, this is the diagonal of J' H J.

    Args:
        model: squashed layers and an output: `LeNet5`, or another of the same kinds.
        x: prepared images (N, 1, 32, 32).
        criterion: of the RBF head; the softmax head has cross-entropy, squashed outputs have
            mse-bipolar.

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
        curvature, h = output_curvature(output, x, criterion)
    if isinstance(output, Units):
        layers, inputs = [*layers, ("output", output)], [*inputs, x]
    for (name, layer), values in zip(reversed(layers), reversed(inputs), strict=True):
        if not isinstance(layer, Units):
            raise LenetError(f"no second derivatives through a {type(layer).__name__}")
        curvature, of_layer = backpropagate_curvature(layer, values, curvature)
        h |= {f"{name}.{parameter}": value for parameter, value in of_layer.items()}
    return {name: h[name] / len(x) for name, _ in model.named_parameters()}


def output_curvature(
    output: nn.Module, features: Tensor, criterion: Criterion
) -> tuple[Tensor, dict[str, Tensor]]:
    """Start of the recursion: d2E/dx2 of the features (N, F), and h of a linear output; of squashed
    outputs, d2E/df2 of themselves."""
    if isinstance(output, Units):
        scores = output(features)
        return torch.full_like(scores, 2.0 / scores.shape[1]), {}
    if isinstance(output, EuclideanRBF):
        if criterion.competitive and criterion.exact:
            return map_curvature(output, features, criterion.j), {}
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
