"""Convolution and pooling from first principles.

Clear rather than fast: every operation is "cut out the windows, then combine each one". The
results and the gradients are those of ``torch.nn.functional``. The names `corr2d`, `Conv2D` and
`pool2d` are those of "Dive into Deep Learning", chapter 7, whose sections are cited below.

Sizes, paddings and strides are one number for both axes or a pair (vertical, horizontal). Padding
is counted on each side, as in PyTorch: p rows above and p below. (The book's p counts both.)
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from lenet.errors import LenetError

Pair = int | tuple[int, int]


def output_size(n: int, k: int, p: int = 0, s: int = 1) -> int:
    """The number of positions of a window along one axis: floor((n + 2p - k) / s) + 1.

    Args:
        n: input pixels.
        k: window size.
        p: padding on each side.
        s: stride.

    Raises:
        LenetError: a number is out of range, or the window does not fit.

    Source: "Dive into Deep Learning", 7.3 (7.3.2 with both paddings equal).
    """
    if n < 1 or k < 1 or p < 0 or s < 1:
        raise LenetError(
            f"input {n}, window {k}, padding {p}, stride {s}: "
            "input, window and stride must be at least 1, padding at least 0"
        )
    if n + 2 * p < k:
        raise LenetError(
            f"a window of {k} does not fit: {n} + 2*{p} = {n + 2 * p} < {k}; "
            "use a smaller window or more padding"
        )
    return (n + 2 * p - k) // s + 1


def windows(X: Tensor, size: Pair, padding: Pair = 0, stride: Pair = 1, fill: float = 0) -> Tensor:
    """All windows of X: (..., h, w) -> (..., h_out, w_out, kh, kw).

    ``windows(X, (kh, kw))[..., i, j, :, :]`` is what output unit (i, j) sees. X is first surrounded
    by `padding` pixels of value `fill`; neighbouring windows are `stride` apart.

    Raises:
        LenetError: X has fewer than two axes, or the window does not fit (`output_size`).
    """
    if X.dim() < 2:
        raise LenetError(f"X must have the axes (..., h, w), not the shape {tuple(X.shape)}")
    (kh, kw), (ph, pw), (sh, sw) = pair(size), pair(padding), pair(stride)
    h, w = X.shape[-2:]
    for n, k, p, s in ((h, kh, ph, sh), (w, kw, pw, sw)):
        output_size(n, k, p, s)  # refuses windows that do not fit
    padded = X.new_full((*X.shape[:-2], h + 2 * ph, w + 2 * pw), fill)
    padded[..., ph : ph + h, pw : pw + w] = X
    return padded.unfold(-2, kh, sh).unfold(-2, kw, sw)  # rows of windows, then windows of rows


def corr2d(X: Tensor, K: Tensor, padding: Pair = 0, stride: Pair = 1) -> Tensor:
    """Two-dimensional cross-correlation: X (h, w), K (kh, kw) -> (h_out, w_out).

    Each output is the sum of a window of X times K, element by element. Deep learning calls this
    convolution; in mathematics, convolution flips the kernel: ``corr2d(X, K.flip(0, 1))``. The
    output sizes are those of `output_size`. Any dtypes that multiply.

    Raises:
        LenetError: a shape is not as above, or K does not fit.

    Source: "Dive into Deep Learning", 7.2.1 (padding and stride: 7.3).
    """
    require_axes("X", X, "h, w")
    require_axes("K", K, "kh, kw")
    kernel_size = (K.shape[0], K.shape[1])
    return (windows(X, kernel_size, padding, stride) * K).sum(dim=(-2, -1))


def corr2d_multi_in(X: Tensor, K: Tensor, padding: Pair = 0, stride: Pair = 1) -> Tensor:
    """Several input channels: X (ci, h, w), K (ci, kh, kw) -> (h_out, w_out).

    Every channel has its own kernel; the results are added.

    Raises:
        LenetError: a shape is not as above, or K does not fit.

    Source: "Dive into Deep Learning", 7.4.1.
    """
    require_axes("X", X, "ci, h, w")
    require_axes("K", K, "ci, kh, kw")
    require_channels(X, len(K))
    per_channel = [corr2d(x, k, padding, stride) for x, k in zip(X, K, strict=True)]
    return torch.stack(per_channel).sum(dim=0)


def corr2d_multi_in_out(X: Tensor, K: Tensor, padding: Pair = 0, stride: Pair = 1) -> Tensor:
    """Several output channels: X (ci, h, w), K (co, ci, kh, kw) -> (co, h_out, w_out).

    Every output channel has its own set of kernels and reads all input channels. For one image
    without bias this is ``torch.nn.functional.conv2d``.

    Raises:
        LenetError: a shape is not as above, or K does not fit.

    Source: "Dive into Deep Learning", 7.4.2.
    """
    require_axes("K", K, "co, ci, kh, kw")
    return torch.stack([corr2d_multi_in(X, k, padding, stride) for k in K])


def corr2d_multi_in_out_1x1(X: Tensor, K: Tensor) -> Tensor:
    """1x1 convolution as a matrix product: X (ci, h, w), K (co, ci, 1, 1) -> (co, h, w).

    A 1x1 window sees one pixel, so this is a fully connected layer (co, ci) applied to the
    channels of every pixel. X and K are of the same floating dtype.

    Raises:
        LenetError: a shape is not as above.

    Source: "Dive into Deep Learning", 7.4.3.
    """
    require_axes("X", X, "ci, h, w")
    if K.dim() != 4 or K.shape[2:] != (1, 1):
        raise LenetError(f"K must have the shape (co, ci, 1, 1), not {tuple(K.shape)}")
    require_channels(X, K.shape[1])
    ci, h, w = X.shape
    return (K.reshape(-1, ci) @ X.reshape(ci, h * w)).reshape(-1, h, w)


def pool2d(
    X: Tensor,
    size: Pair,
    mode: Literal["max", "avg"] = "max",
    padding: Pair = 0,
    stride: Pair = 1,
) -> Tensor:
    """The largest value or the mean of every window: X (..., h, w) -> (..., h_out, w_out).

    Each channel is pooled separately. The stride is 1 as in the book's function; LeNet's layers,
    and PyTorch's by default, use the window size. Integers become floats.

    Max pooling pads with -inf, which is never the largest; the first of equal values gets the
    gradient. Average pooling pads with zeros and counts them (PyTorch's default
    ``count_include_pad=True``), so means at the border are closer to 0.

    Raises:
        LenetError: unknown mode, the window does not fit, or padding is more than half a window,
            which could then contain nothing but padding.

    Source: "Dive into Deep Learning", 7.5.
    """
    if mode not in ("max", "avg"):
        raise LenetError(f"mode must be 'max' or 'avg', not {mode!r}")
    for k, p in zip(pair(size), pair(padding), strict=True):
        if p > k // 2:
            raise LenetError(
                f"padding {p} is more than half the window: {k} // 2 = {k // 2}; use less padding"
            )
    if not X.is_floating_point():
        X = X.to(torch.get_default_dtype())
    if mode == "max":
        # Flattened, as max gives the gradient to one of equal values, and amax to all.
        return windows(X, size, padding, stride, fill=-torch.inf).flatten(-2).max(dim=-1).values
    return windows(X, size, padding, stride).mean(dim=(-2, -1))


class Conv2D(nn.Module):
    """A convolution layer for one channel: (h, w) -> (h_out, w_out), corr2d plus a bias.

    Attributes:
        weight: (kh, kw), initially uniform in [0, 1) from `generator` (by default PyTorch's).
        bias: (1,), initially 0.

    Source: "Dive into Deep Learning", 7.2.2.
    """

    def __init__(
        self,
        kernel_size: tuple[int, int],
        padding: Pair = 0,
        stride: Pair = 1,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(kernel_size, generator=generator))
        self.bias = nn.Parameter(torch.zeros(1))
        self.padding, self.stride = padding, stride

    def forward(self, x: Tensor) -> Tensor:
        return corr2d(x, self.weight, self.padding, self.stride) + self.bias


def learn_kernel(
    X: Tensor,
    Y: Tensor,
    kernel_size: tuple[int, int],
    lr: float = 3e-2,
    steps: int = 10,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, list[float]]:
    """Finds the kernel that turns X (h, w) into Y (h_out, w_out), by gradient descent.

    The loss is the sum of squared differences; every second step prints ``epoch 2, loss ...``. As
    in the book's loop, only the weight is trained; the bias stays 0.

    Returns:
        The kernel (kh, kw), and the loss before each step.

    Raises:
        LenetError: Y does not have the shape that X and the kernel size give.

    Source: "Dive into Deep Learning", 7.2.4.
    """
    layer = Conv2D(kernel_size, generator=generator)
    shape = layer(X).shape
    if Y.shape != shape:
        raise LenetError(
            f"Y has the shape {tuple(Y.shape)}, but a {kernel_size[0]}x{kernel_size[1]} kernel "
            f"on X {tuple(X.shape)} gives {tuple(shape)}"
        )
    losses: list[float] = []
    for step in range(1, steps + 1):
        loss = ((layer(X) - Y) ** 2).sum()
        (gradient,) = torch.autograd.grad(loss, layer.weight)
        with torch.no_grad():
            layer.weight.sub_(lr * gradient)
        losses.append(loss.item())
        if step % 2 == 0:
            print(f"epoch {step}, loss {loss:.3f}")
    return layer.weight.detach(), losses


class ReceptiveField(NamedTuple):
    """What the units of a layer see along one axis of the input, in pixels."""

    size: int
    """Pixels from the first to the last that one unit sees, padding included."""
    jump: int
    """Pixels between the fields of neighbouring units: the product of the strides so far."""
    start: int
    """First pixel of unit 0's field; negative if it is in the padding."""


def receptive_field(layers: Sequence[tuple[int, int, int]]) -> ReceptiveField:
    """Computes the receptive field of convolution and pooling layers along one axis.

    A window of k units spans k - 1 jumps of the layer below, so each layer adds (k - 1) * jump
    pixels, and then multiplies the jump by its stride.

    Args:
        layers: (window k, padding p, stride s) of each layer, starting at the input; empty for the
            input itself.

    Raises:
        LenetError: a number is out of range.

    Source: "Dive into Deep Learning", 7.2.6, which describes it without a formula.
    """
    size, jump, start = 1, 1, 0
    for k, p, s in layers:
        if k < 1 or p < 0 or s < 1:
            raise LenetError(
                f"layer ({k}, {p}, {s}): window and stride must be at least 1, padding at least 0"
            )
        size += (k - 1) * jump
        start -= p * jump
        jump *= s
    return ReceptiveField(size, jump, start)


def pixels_seen(layers: Sequence[tuple[int, int, int]], unit: int, n: int) -> range:
    """The pixels, out of n on an axis, that one unit of the last layer sees, without padding.

    This is the receptive field, cut at the border of the image. A layer whose stride is larger than
    its window skips some of the pixels in between.

    Args:
        layers: as in `receptive_field`.
        unit: 0, 1, ...; for LeNet and n = 28, S4 has the units 0 to 4.
        n: input pixels.

    Raises:
        LenetError: a layer does not fit (`output_size`), or there is no such unit.
    """
    sizes = [n]
    for k, p, s in layers:
        sizes.append(output_size(sizes[-1], k, p, s))
    if not 0 <= unit < sizes[-1]:
        raise LenetError(f"there is no unit {unit}: the last layer has units 0 to {sizes[-1] - 1}")
    first, last = unit, unit
    for (k, p, s), size in zip(reversed(layers), reversed(sizes[:-1]), strict=True):
        first, last = max(first * s - p, 0), min(last * s - p + k - 1, size - 1)
        if first > last:  # only padding
            return range(0)
    return range(first, last + 1)


def equivariance_error(
    layer: Callable[[Tensor], Tensor], scene: Tensor, shift: tuple[int, int], stride: int = 1
) -> float:
    """Measures how "shift, then layer" differs from "layer, then shift"; 0 is equivariance.

    Two views are cut from the scene such that its content moves by `shift` from one to the other,
    without an artificial border. The layer's output should move with it.

    Args:
        layer: (..., h, w) -> (..., h_out, w_out).
        scene: (..., h, w), floating point.
        shift: pixels (down, right), each at least 0.
        stride: the layer's stride; the output moves by shift / stride.

    Returns:
        Norm of the difference over norm of the output, where the two outputs overlap.

    Raises:
        LenetError: the shift is not a multiple of the stride or leaves no overlap, or the output
            is 0 everywhere.
    """
    if shift[0] % stride or shift[1] % stride:
        raise LenetError(f"the shift {shift} must be a multiple of the stride {stride}")
    still, moved = (layer(view) for view in two_views(scene, shift))
    moved_back, _ = two_views(moved, (shift[0] // stride, shift[1] // stride))
    _, still = two_views(still, (shift[0] // stride, shift[1] // stride))
    return relative_difference(still, moved_back)


def invariance_error(
    layer: Callable[[Tensor], Tensor], scene: Tensor, shift: tuple[int, int]
) -> float:
    """Measures how a layer's output changes when the content moves; 0 is invariance.

    Arguments, result and errors are those of `equivariance_error`, but the output should not move.
    """
    still, moved = (layer(view) for view in two_views(scene, shift))
    return relative_difference(still, moved)


def two_views(X: Tensor, shift: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Two views of X (..., h, w), of equal sizes: in the second, the content has moved."""
    h, w = X.shape[-2:]
    down, right = shift
    if not (0 <= down < h and 0 <= right < w):
        raise LenetError(f"the shift {shift} must be at least 0 and less than the size ({h}, {w})")
    return X[..., down:, right:], X[..., : h - down, : w - right]


def relative_difference(reference: Tensor, other: Tensor) -> float:
    norm = reference.norm()
    if norm == 0:
        raise LenetError("the output is 0 everywhere, so there is nothing to compare")
    return float((other - reference).norm() / norm)


def pair(value: Pair) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    if len(value) != 2:
        raise LenetError(f"give one number or a pair (vertical, horizontal), not {value}")
    return value


def require_axes(name: str, X: Tensor, axes: str) -> None:
    if X.dim() != len(axes.split(", ")):
        raise LenetError(f"{name} must have the axes ({axes}), not the shape {tuple(X.shape)}")


def require_channels(X: Tensor, channels: int) -> None:
    if len(X) != channels or channels == 0:
        raise LenetError(f"X has {len(X)} channels, but K has kernels for {channels}")
