"""The layers of LeNet-5 (1998), each with its squashing inside, as the paper draws them.

A unit answers f(a): a is the weighted sum of its inputs plus its bias, f the scaled tanh. Every
layer counts its connections as the paper does (a bias is one connection) and knows how second
derivatives run back through it (paper, appendix C), which `lenet.training.optim` strings together.

LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition", 1998.
"""

from collections.abc import Callable, Sequence
from math import prod

import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor, nn

from lenet.errors import LenetError

AMPLITUDE, STEEPNESS = 1.7159, 2 / 3


def scaled_tanh(a: Tensor) -> Tensor:
    """1.7159 tanh(2a/3): f(1) = 1 and f(-1) = -1 (paper, appendix A)."""
    return AMPLITUDE * torch.tanh(STEEPNESS * a)


def scaled_tanh_slope(f: Tensor) -> Tensor:
    """The derivative of the scaled tanh where its value is f."""
    return AMPLITUDE * STEEPNESS - (STEEPNESS / AMPLITUDE) * f.square()


class ScaledTanh(nn.Module):
    """1.7159 tanh(2x/3), element by element (paper, appendix A)."""

    def forward(self, x: Tensor) -> Tensor:
        return scaled_tanh(x)


def curvature_of_sum(
    weighted_sum: Callable[..., Tensor], terms: Sequence[Tensor], of_sums: Tensor
) -> tuple[Tensor, ...]:
    """Carries second derivatives from weighted sums a = sum of u x + b back to u, x and b.

    The paper's recursion (eq. 22, 25-27) says h_u = sum of d2E/da2 x^2 over the connections that
    share u, d2E/dx2 = sum of u^2 d2E/da2 and h_b = sum of d2E/da2. These are the first derivatives
    of the same weighted sum taken of squared values, so autograd does it for any linear layer.

    Args:
        weighted_sum: gives the sums from `terms`, and is linear in the inputs, in the weights and
            in the bias.
        terms: inputs, weights and bias.
        of_sums: d2E/da2, of the shape of the sums.

    Returns:
        d2E with respect to each of the terms, of their shapes.
    """
    with torch.enable_grad():
        squares = [term.detach().square().requires_grad_() for term in terms]
        return torch.autograd.grad(weighted_sum(*squares), squares, of_sums)


class SquashedLayer(nn.Module):
    """Units f(weighted sum of the inputs + bias). Parameters: first the weights, then the bias.

    Attributes:
        window: (side, stride) of the square of inputs that one unit sees.
        fan_in: number of inputs of a unit, without the bias.
    """

    window = (1, 1)
    fan_in: int

    def weighted_sum(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """a, linear in each of its arguments."""
        raise NotImplementedError

    def gather(self, x: Tensor) -> Tensor:
        """The layer's input as the trainable weights meet it."""
        return x

    def forward(self, x: Tensor) -> Tensor:
        return scaled_tanh(self.weighted_sum(self.gather(x), *self.parameters()))

    def start(self, bound: Callable[[int], float]) -> None:
        """Draws weights and bias uniformly in +-bound(fan-in), from torch's global generator."""
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound(self.fan_in), bound(self.fan_in))

    def backpropagate_curvature(
        self, x: Tensor, curvature: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Gauss-Newton second derivatives, one layer back (paper, eq. 22-27).

        Args:
            x: the layer's input (N, ...).
            curvature: d2E/df2 of the layer's output, of its shape.

        Returns:
            d2E/dx2, and by parameter name the sum of h over the N patterns.
        """
        with torch.no_grad():
            of_sums = curvature * scaled_tanh_slope(self(x)).square()
        names, parameters = zip(*self.named_parameters(), strict=True)
        of_input, *h = curvature_of_sum(self.weighted_sum, (self.gather(x), *parameters), of_sums)
        return of_input, dict(zip(names, h, strict=True))

    def connections(self, output_shape: Sequence[int]) -> int:
        """Connections for an output of that shape (no batch axis); a bias counts as one."""
        return self.multiply_adds(output_shape) + prod(output_shape)

    def multiply_adds(self, output_shape: Sequence[int]) -> int:
        """Connections other than biases: one multiplication and one addition each."""
        return prod(output_shape) * self.fan_in


class SquashedConv2d(SquashedLayer):
    """A full convolution and its squashing: C1 and C5. (N, in, H, W) -> (N, out, H', W')."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.window = (kernel, 1)
        self.fan_in = inputs * kernel * kernel
        self.weight = nn.Parameter(torch.zeros(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def weighted_sum(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.conv2d(x, weight, bias)


class TableConv2d(SquashedLayer):
    """A convolution that connects only some maps, and its squashing: C3.

    There is one kernel for each connection of the table and nothing else: `weight` has shape
    (connections, kernel, kernel), ordered by output map and then by input map.

    Args:
        table: booleans (outputs, inputs), true where the maps are connected.
        kernel: side of the kernels.

    Raises:
        LenetError: the table is not of two axes, or leaves an output without any input.
    """

    table: Tensor
    pairs: Tensor

    def __init__(self, table: ArrayLike, kernel: int) -> None:
        super().__init__()
        connected = torch.as_tensor(table, dtype=torch.bool)
        if connected.ndim != 2 or not connected.any(dim=1).all():
            raise LenetError("a connection table needs shape (outputs, inputs), no row without X")
        self.window = (kernel, 1)
        self.register_buffer("table", connected, persistent=False)
        # (2, connections): output and input map of each; found once, as a GPU would wait for it.
        self.register_buffer("pairs", connected.nonzero().T.contiguous(), persistent=False)
        self.weight = nn.Parameter(torch.zeros(int(connected.sum()), kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(len(connected)))

    def weighted_sum(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        kernels = weight.new_zeros(*self.table.shape, *weight.shape[1:])
        return F.conv2d(x, kernels.index_put(tuple(self.pairs), weight), bias)

    def start(self, bound: Callable[[int], float]) -> None:
        """As in `SquashedLayer`; here the fan-in differs from map to map."""
        fan_in = self.table.sum(dim=1) * self.weight[0].numel()
        bounds = torch.tensor([bound(int(inputs)) for inputs in fan_in], dtype=self.weight.dtype)
        owner = self.pairs[0]
        with torch.no_grad():
            self.weight.uniform_(-1, 1).mul_(bounds[owner, None, None])
            self.bias.uniform_(-1, 1).mul_(bounds)

    def multiply_adds(self, output_shape: Sequence[int]) -> int:
        return self.weight.numel() * prod(output_shape[-2:])


class Subsampling(SquashedLayer):
    """f(c p + b), p the sum or the average of 2x2 inputs, c and b one a map: S2 and S4.

    (N, maps, H, W) -> (N, maps, H/2, W/2), H and W even.

    For second derivatives p counts as a linear unit between the inputs and the coefficient, so
    h_c = sum of d2E/da2 p^2: exact for a single unit. Four separate connections that share c
    would give the sum of the four squares, up to four times less where neighbours are alike.

    Args:
        maps: number of maps.
        pooling: "average" or "sum".
    """

    window = (2, 2)
    fan_in = 4

    def __init__(self, maps: int, pooling: str) -> None:
        super().__init__()
        if pooling not in ("average", "sum"):
            raise LenetError(f"subsampling must be average or sum, not {pooling!r}")
        self.scale = 1.0 if pooling == "sum" else 0.25  # what each of the four adds to p
        self.coefficient = nn.Parameter(torch.full((maps,), 0.25 / self.scale))
        self.bias = nn.Parameter(torch.zeros(maps))

    def gather(self, x: Tensor) -> Tensor:
        """p: (N, maps, H, W) -> (N, maps, H/2, W/2)."""
        return F.avg_pool2d(x, 2) * (4 * self.scale)

    def weighted_sum(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return weight[:, None, None] * x + bias[:, None, None]

    def backpropagate_curvature(
        self, x: Tensor, curvature: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        of_pooled, h = super().backpropagate_curvature(x, curvature)
        return self.scale**2 * F.interpolate(of_pooled, scale_factor=2), h


class SquashedLinear(SquashedLayer):
    """A full connection and its squashing: F6. (N, ...) of `inputs` numbers -> (N, outputs)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.fan_in = inputs
        self.weight = nn.Parameter(torch.zeros(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def weighted_sum(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.linear(x.flatten(1), weight, bias)


class EuclideanRBF(nn.Module):
    """Squared distances to fixed codes (paper, section II.B): the output layer.

    The paper's output is the penalty y_i = sum over j of (x_j - code_ij)^2; the answer is its
    smallest. `forward` gives -y, so that everywhere in this package the largest score answers.

    Args:
        codes: (classes, features), kept as a buffer: they are not trained.
    """

    codes: Tensor

    def __init__(self, codes: ArrayLike) -> None:
        super().__init__()
        self.register_buffer("codes", torch.as_tensor(codes).clone(), persistent=False)

    def penalties(self, x: Tensor) -> Tensor:
        """(N, features) -> (N, classes), at least 0."""
        # Differences first: x^2 - 2 x code + code^2 would cancel just where the answer is right.
        return (x[:, None, :] - self.codes).square().sum(dim=2)

    def forward(self, x: Tensor) -> Tensor:
        return -self.penalties(x)

    def connections(self, output_shape: Sequence[int]) -> int:
        """One connection for each class and feature, no biases."""
        return prod(output_shape) * self.codes.shape[1]

    def multiply_adds(self, output_shape: Sequence[int]) -> int:
        """One for each connection: a difference, squared and added."""
        return self.connections(output_shape)
