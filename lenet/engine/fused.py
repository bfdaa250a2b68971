"""The fused CPU kernels: a whole training step in one call, in float32. See docs/engine.md."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.data.distortion import Warps
from lenet.engine.objective import Objective
from lenet.engine.optimizers import Optimizer
from lenet.engine.plan import describe, plan
from lenet.engine.processor import instruction_set, usable_cores
from lenet.errors import LenetError
from lenet.networks.architecture import Architecture

try:
    from lenet.engine import _fused
except ImportError:  # pure Python installation
    _fused = None

NOT_INSTALLED = "the compiled kernels are not installed"
PLAIN = Objective()


def unsupported(architecture: Architecture, image_size: int = 28) -> str | None:
    """None if the kernels support this network, else one sentence that says why not."""
    if _fused is None:
        return NOT_INSTALLED
    try:
        plan(architecture, image_size)
    except LenetError as error:
        return str(error)
    return None


def unsupported_images(architecture: Architecture, shape: tuple[int, ...]) -> str | None:
    """As `unsupported`, for images of that shape, (H, W) or (C, H, W)."""
    *channels, height, width = shape
    if channels or height != width:
        words = "x".join(map(str, shape))
        return f"the fused kernels read square grey images, not {words}"
    return unsupported(architecture, height)


def instruction_sets() -> tuple[str, ...]:
    """Those of this processor, best first: "avx512", "avx2", and always "portable"."""
    return () if _fused is None else tuple(_fused.instruction_sets())


class Kernels:
    """Training steps and scores of one network.

    Safe to call from several threads, and in a forked child. The same arguments and number of
    threads give the same bits.
    """

    def __init__(
        self,
        architecture: Architecture,
        objective: Objective = PLAIN,
        image_size: int = 28,
        threads: int | None = None,
        isa: str | None = None,
    ) -> None:
        """
        Args:
            architecture: the network.
            objective: what a step minimises.
            image_size: side of the images in pixels.
            threads: threads that share a step, 1 to 256; by default one for each core that this
                process may use.
            isa: one of `instruction_sets()`; by default the environment variable LENET_ENGINE or
                the best.

        Raises:
            LenetError: the network, the threads or the instruction set are not supported.
        """
        if _fused is None:
            raise LenetError(NOT_INSTALLED)
        description = describe(plan(architecture, image_size), objective)
        threads = min(usable_cores(), 256) if threads is None else threads
        if not 1 <= threads <= 256:
            raise LenetError(f"threads must be from 1 to 256, not {threads}")
        isa = instruction_set(instruction_sets(), isa)
        self.architecture, self.objective, self.image_size = architecture, objective, image_size
        self.threads, self.isa = threads, isa
        self.shapes = tuple(parameter.shape for parameter in architecture.parameters)
        self.size = sum(parameter.size for parameter in architecture.parameters)
        self._kernels = _fused.FusedStep(description, threads, isa)

    def parameters(
        self,
        weights: NDArray[np.float32],
        gradients: NDArray[np.float32],
        optimizer: Optimizer | None = None,
        state: NDArray[np.float32] | None = None,
        average: NDArray[np.float32] | None = None,
        averaging: float = 0.0,
    ) -> Any:
        """Checks the caller's arrays once, for many steps that use them in place.

        Args:
            weights: float32 (N,), C-contiguous as all arrays here: all parameters in their order;
                see `views`. Read by each step, changed by an update.
            gradients: float32 (N,), overwritten by each step with the gradients of its mean loss.
            optimizer: what updates the weights, if anything.
            state: float32 (optimizer.states, N), zeros before the first update; None if the
                optimizer has no state.
            average: float32 (N,), moving average of the weights after each update, or None.
            averaging: what the average keeps in an update, 0 to 1.

        Raises:
            LenetError: an array has another dtype, shape or layout, or is read-only.
        """
        flat = (self.size,)
        _check("weights", weights, np.float32, flat, writeable=True)
        _check("gradients", gradients, np.float32, flat, writeable=True)
        if optimizer and optimizer.states:
            _check("state", state, np.float32, (optimizer.states, self.size), writeable=True)
        else:
            state = None
        if average is not None:
            _check("average", average, np.float32, flat, writeable=True)
        if not 0 <= averaging <= 1:
            raise LenetError(f"averaging must be from 0 to 1, not {averaging}")
        name = optimizer.name if optimizer else None
        assert _fused is not None
        return _fused.Parameters(weights, gradients, name, state, average, averaging)

    def step(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64],
        index: NDArray[np.int64],
        parameters: Any,
        warps: Warps | None = None,
        targets: NDArray[np.float32] | None = None,
        update: Sequence[float] | None = None,
    ) -> tuple[float, int]:
        """Runs forward and backward pass of one batch and, optionally, updates the weights.

        Args:
            images: uint8 (N, image_size, image_size), C-contiguous as all arrays here.
            labels: int64 (N,), 0 to classes - 1.
            index: int64 (B,), the images of the batch, 0 to N - 1.
            parameters: the result of `parameters` for the same network.
            warps: a distortion for each image of the batch, or None.
            targets: float32 (B, classes), distributions over the classes, if and only if the
                objective has distillation.
            update: the optimizer's coefficients of this step; None for no update.

        Returns:
            Mean loss over the batch, and number of labels that have the largest score.

        Raises:
            LenetError: an array has another dtype, shape or layout, or a value is out of range.
        """
        distortions = (None, None, None, None) if warps is None else warps.arrays
        try:
            return self._kernels.step(
                images, labels, index, parameters, *distortions, targets, update
            )
        except (ValueError, IndexError) as error:
            raise LenetError(str(error)) from None
        except TypeError:  # which array is it? Only now, as this takes longer than the call.
            self._check_images(images)
            _check("labels", labels, np.int64, (len(images),))
            _check("index", index, np.int64, (len(index),))
            _check_distortions(warps, len(index))
            if targets is not None:
                _check("targets", targets, np.float32, (len(index), self.architecture.classes))
            raise

    def scores(
        self, images: NDArray[np.uint8], weights: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Scores (N, classes) of uint8 images (N, image_size, image_size); weights as in `step`.

        Raises:
            LenetError: an array has another dtype, shape or layout.
        """
        self._check_images(images)
        _check("weights", weights, np.float32, (self.size,))
        scores = np.empty((len(images), self.architecture.classes), np.float32)
        if len(images):
            self._kernels.scores(images, weights, scores)
        return scores

    def _check_images(self, images: NDArray[Any]) -> None:
        side = self.image_size
        _check("images", images, np.uint8, (len(images), side, side))


def flatten(arrays: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
    """A flat copy of all arrays, one after another."""
    return np.concatenate([array.ravel() for array in arrays])


def views(
    flat: NDArray[np.float32], shapes: Iterable[tuple[int, ...]]
) -> list[NDArray[np.float32]]:
    """Views of a flat array as arrays of those shapes, one after another."""
    arrays, start = [], 0
    for shape in shapes:
        end = start + math.prod(shape)
        arrays.append(flat[start:end].reshape(shape))
        start = end
    return arrays


def warp(
    images: NDArray[np.uint8], index: NDArray[np.int64], warps: Warps, threads: int | None = None
) -> NDArray[np.uint8]:
    """Distorts images: bilinear, 0 outside, rounded.

    Args:
        images: uint8 (N, H, H), C-contiguous as all arrays here.
        index: int64 (B,), the images to distort, 0 to N - 1.
        warps: B distortions.
        threads: threads that share the work; by default one for each core.

    Returns:
        uint8 (B, H, H).

    Raises:
        LenetError: an array has another dtype, shape or layout, or an index is out of range.
    """
    if _fused is None:
        raise LenetError(NOT_INSTALLED)
    _check("index", index, np.int64, (len(index),))
    _check_distortions(warps, len(index))
    _check("images", images, np.uint8, images.shape)
    out = np.empty((len(index), *images.shape[1:]), np.uint8)
    try:
        threads = threads or min(usable_cores(), 256)
        isa = instruction_set(instruction_sets())
        _fused.warp(images, index, *warps.arrays, out, threads, isa)
    except (ValueError, IndexError, TypeError) as error:
        raise LenetError(str(error)) from None
    return out


def _check_distortions(warps: Warps | None, count: int) -> None:
    if warps is None:
        return
    _check("maps", warps.maps, np.float32, (count, 2, 3))
    if warps.knots is not None:  # the module checks their number
        _check("knots", warps.knots, np.float32, (count, *warps.knots.shape[1:]))
    if warps.shades is not None:
        _check("shades", warps.shades, np.float32, (count, 2))
    if warps.noise is not None:
        _check("noise", warps.noise, np.int64, (count, 2))


def _check(
    name: str, array: Any, dtype: Any, shape: tuple[int, ...], writeable: bool = False
) -> None:
    if not isinstance(array, np.ndarray):
        raise LenetError(f"{name} must be a NumPy array, not {type(array).__name__}")
    if array.dtype != dtype:
        raise LenetError(f"{name} must be {np.dtype(dtype).name}, not {array.dtype}")
    if array.shape != shape:
        raise LenetError(f"{name} must have the shape {shape}, not {array.shape}")
    if not array.flags.c_contiguous:
        raise LenetError(f"{name} must be C-contiguous: use numpy.ascontiguousarray")
    if writeable and not array.flags.writeable:
        raise LenetError(f"{name} must be writeable")
