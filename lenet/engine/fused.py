"""The fused CPU kernels: a whole training step of a LeNet-shaped network in one call.

The network is convolution, activation, 2x2 pooling, twice, then three fully connected layers with
activations between them, in float32. docs/engine.md describes the kernels. Nothing here imports
PyTorch.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.errors import LenetError

try:
    from lenet.engine import _fused
except ImportError:  # pure Python installation
    _fused = None

ACTIVATIONS = ("sigmoid", "tanh", "scaled-tanh", "relu", "gelu")
POOLINGS = ("average", "max")
LOSSES = ("cross-entropy", "mse")


@dataclass(frozen=True)
class Plan:
    """Everything the kernels must know of a network, its input and its loss.

    An image is enlarged from image_size to input_size by pixels of value 0 on all sides, becomes
    (x / 255 - mean) / std, and is padded by `padding` zeros at the first convolution.

    activation: "sigmoid", "tanh", "scaled-tanh" (1.7159 tanh(2x / 3)), "relu" or "gelu"
    (x sigmoid(1.702 x)); it comes before the pooling. loss: "cross-entropy", or "mse", the mean of
    (scores - one_hot)^2 over examples and classes. distillation: share w of the loss that comes
    from given targets p, (1 - w) loss + w T^2 cross_entropy(p, softmax(scores / T)), T the
    temperature.
    """

    image_size: int = 28
    input_size: int = 28
    padding: int = 2
    channels: tuple[int, int] = (6, 16)
    kernel_sizes: tuple[int, int] = (5, 5)
    hidden: tuple[int, int] = (120, 84)
    classes: int = 10
    activation: str = "sigmoid"
    pooling: str = "average"
    mean: float = 0.0
    std: float = 1.0
    loss: str = "cross-entropy"
    label_smoothing: float = 0.0
    distillation: float = 0.0
    temperature: float = 1.0

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of C1.weight, C1.bias, C3.weight, ..., output.bias."""
        (c1, c3), (k1, k3), (c5, f6) = self.channels, self.kernel_sizes, self.hidden
        pooled = (self.input_size + 2 * self.padding - k1 + 1) // 2
        pooled = (pooled - k3 + 1) // 2
        weights = (
            (c1, 1, k1, k1),
            (c3, c1, k3, k3),
            (c5, c3 * pooled**2),
            (f6, c5),
            (self.classes, f6),
        )
        return tuple(shape for weight in weights for shape in (weight, weight[:1]))


def unsupported(plan: Plan) -> str | None:
    """None if the kernels serve this plan, else one sentence why not."""
    if _fused is None:
        return "the compiled kernels are not installed"
    for field, choices in (
        ("activation", ACTIVATIONS),
        ("pooling", POOLINGS),
        ("loss", LOSSES),
    ):
        if getattr(plan, field) not in choices:
            return f"the {field} {getattr(plan, field)!r} is not one of {', '.join(choices)}"
    standard = Plan()
    for field in ("channels", "kernel_sizes", "hidden", "classes"):
        served = getattr(standard, field)
        if getattr(plan, field) != served:
            return f"the fused kernels serve {field} {served}, not {getattr(plan, field)}"
    border, odd = divmod(plan.input_size - plan.image_size, 2)
    if odd or border < 0 or plan.padding < 0 or plan.input_size + 2 * plan.padding != 32:
        return (
            "the fused kernels serve 28x28 inputs with padding 2 and 32x32 inputs without, not "
            f"{plan.image_size}x{plan.image_size} images in {plan.input_size}x{plan.input_size} "
            f"inputs with padding {plan.padding}"
        )
    if plan.image_size < 16:
        return "the fused kernels read images of 16x16 pixels or more"
    if not (np.isfinite(plan.mean) and np.isfinite(plan.std) and plan.std > 0):
        return f"mean {plan.mean} and std {plan.std} must be finite, and std positive"
    if not 0 <= plan.label_smoothing <= 1:
        return f"label smoothing must be from 0 to 1, not {plan.label_smoothing}"
    if plan.label_smoothing and plan.loss != "cross-entropy":
        return "label smoothing belongs to the loss cross-entropy"
    if not 0 <= plan.distillation <= 1:
        return f"distillation must be from 0 to 1, not {plan.distillation}"
    if not (np.isfinite(plan.temperature) and plan.temperature > 0):
        return f"the temperature must be finite and positive, not {plan.temperature}"
    return None


def instruction_sets() -> tuple[str, ...]:
    """What this processor can run, best first: of "avx512", "avx2", and always "portable"."""
    return () if _fused is None else tuple(_fused.instruction_sets())


class Kernels:
    """Training steps and scores of one plan.

    Safe to call from several threads, and in a forked child. The same arguments and number of
    threads give the same bits.
    """

    def __init__(self, plan: Plan, threads: int | None = None, isa: str | None = None) -> None:
        """
        Args:
            plan: the network.
            threads: threads that share a step, 1 to 256; by default one for each core that this
                process may use.
            isa: one of `instruction_sets()`; by default the environment variable LENET_ENGINE,
                or else the best.

        Raises:
            LenetError: the kernels do not serve the plan, the threads or the instruction set.
        """
        obstacle = unsupported(plan)
        if obstacle:
            raise LenetError(obstacle)
        if threads is None:
            threads = min(usable_cores(), 256)
        if not 1 <= threads <= 256:
            raise LenetError(f"threads must be from 1 to 256, not {threads}")
        available = instruction_sets()
        isa = isa or os.environ.get("LENET_ENGINE") or available[0]
        if isa not in available:
            raise LenetError(
                f"the instruction set {isa!r} is not available here; choose one of "
                + ", ".join(available)
            )
        self.plan, self.threads, self.isa = plan, threads, isa
        assert _fused is not None
        self._kernels = _fused.FusedStep(plan, threads, isa)

    def step(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64],
        index: NDArray[np.int64],
        weights: Sequence[NDArray[np.float32]],
        gradients: Sequence[NDArray[np.float32]],
        maps: NDArray[np.float32] | None = None,
        knots: NDArray[np.float32] | None = None,
        shades: NDArray[np.float32] | None = None,
        targets: NDArray[np.float32] | None = None,
    ) -> tuple[float, int]:
        """Forward and backward pass of one batch.

        Args:
            images: uint8 (N, image_size, image_size), C-contiguous, as all arrays here.
            labels: int64 (N,), 0 to classes - 1.
            index: int64 (B,), which images make up the batch, 0 to N - 1.
            weights: float32 arrays of `plan.shapes`.
            gradients: float32 arrays of `plan.shapes`, overwritten by the gradients of the mean
                loss.
            maps, knots, shades: float32 (B, 2, 3), (B, 2, K, K) and (B, 2), distortions of the
                images as `warp` has them; None for images as they are.
            targets: float32 (B, classes), distributions over the classes, given if and only if
                the plan has distillation.

        Returns:
            Mean loss over the batch, and how many labels have the largest score.

        Raises:
            LenetError: an array has another dtype, shape or layout, or a value is out of range.
        """
        self._check_images(images)
        _check("labels", labels, np.int64, (len(images),))
        _check("index", index, np.int64, (len(index),))
        self._check_parameters("weights", weights)
        self._check_parameters("gradients", gradients)
        for gradient in gradients:
            if not gradient.flags.writeable:
                raise LenetError("gradients must be writeable")
        _check_distortions(maps, knots, shades, len(index))
        if (targets is not None) != bool(self.plan.distillation):
            raise LenetError("targets and the plan's distillation go together")
        if targets is not None:
            _check("targets", targets, np.float32, (len(index), self.plan.classes))
        try:
            return self._kernels.step(
                *(images, labels, index, list(weights), list(gradients)),
                *(maps, knots, shades, targets),
            )
        except (ValueError, IndexError) as error:
            raise LenetError(str(error)) from None

    def scores(
        self, images: NDArray[np.uint8], weights: Sequence[NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """Scores (N, classes) of uint8 images (N, image_size, image_size).

        Raises:
            LenetError: an array has another dtype, shape or layout.
        """
        self._check_images(images)
        self._check_parameters("weights", weights)
        scores = np.empty((len(images), self.plan.classes), np.float32)
        if len(images):
            self._kernels.scores(images, list(weights), scores)
        return scores

    def _check_images(self, images: NDArray[Any]) -> None:
        side = self.plan.image_size
        _check("images", images, np.uint8, (len(images), side, side))

    def _check_parameters(self, name: str, arrays: Sequence[NDArray[Any]]) -> None:
        shapes = self.plan.shapes
        if len(arrays) != len(shapes):
            raise LenetError(f"{name} must be {len(shapes)} arrays, not {len(arrays)}")
        for i, (array, shape) in enumerate(zip(arrays, shapes, strict=True)):
            _check(f"{name}[{i}]", array, np.float32, shape)


def warp(
    images: NDArray[np.uint8],
    index: NDArray[np.int64],
    maps: NDArray[np.float32],
    knots: NDArray[np.float32] | None = None,
    shades: NDArray[np.float32] | None = None,
    threads: int | None = None,
) -> NDArray[np.uint8]:
    """Chosen images, distorted; `lenet.augment.warp` says the same in PyTorch.

    Args:
        images: uint8 (N, H, H), C-contiguous, as all arrays here.
        index: int64 (B,), 0 to N - 1.
        maps: float32 (B, 2, 3), affine maps as `lenet.augment.Distortion.draw` gives them.
        knots: float32 (B, 2, K, K), elastic displacements from there; None for none.
        shades: float32 (B, 2), shades of paper and contrasts from there; None for none.
        threads: threads that share the work; by default one for each core.

    Returns:
        uint8 (B, H, H).

    Raises:
        LenetError: an array has another dtype, shape or layout, or an index is out of range.
    """
    assert _fused is not None
    _check("index", index, np.int64, (len(index),))
    _check_distortions(maps, knots, shades, len(index))
    _check("images", images, np.uint8, images.shape)
    out = np.empty((len(index), *images.shape[1:]), np.uint8)
    try:
        threads = threads or min(usable_cores(), 256)
        _fused.warp(images, index, maps, knots, shades, out, threads)
    except (ValueError, IndexError, TypeError) as error:
        raise LenetError(str(error)) from None
    return out


def _check_distortions(
    maps: NDArray[np.float32] | None,
    knots: NDArray[np.float32] | None,
    shades: NDArray[np.float32] | None,
    count: int,
) -> None:
    if maps is not None:
        _check("maps", maps, np.float32, (count, 2, 3))
    if knots is not None:  # the module knows how many there must be
        _check("knots", knots, np.float32, (count, *knots.shape[1:]))
    if shades is not None:
        _check("shades", shades, np.float32, (count, 2))


def _check(name: str, array: NDArray[Any], dtype: Any, shape: tuple[int, ...]) -> None:
    if not isinstance(array, np.ndarray):
        raise LenetError(f"{name} must be a NumPy array, not {type(array).__name__}")
    if array.dtype != dtype:
        raise LenetError(f"{name} must be {np.dtype(dtype).name}, not {array.dtype}")
    if array.shape != shape:
        raise LenetError(f"{name} must have the shape {shape}, not {array.shape}")
    if not array.flags.c_contiguous:
        raise LenetError(f"{name} must be C-contiguous: use numpy.ascontiguousarray")


def usable_cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
