"""The fused CPU kernels: a whole training step of a planned network in one call, in float32.

docs/engine.md describes the kernels. Nothing here imports PyTorch.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.engine.objective import Objective
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
    """None if the kernels serve this network, else one sentence why not."""
    if _fused is None:
        return NOT_INSTALLED
    answer = plan(architecture, image_size)
    return answer if isinstance(answer, str) else None


def instruction_sets() -> tuple[str, ...]:
    """What this processor can run, best first: of "avx512", "avx2", and always "portable"."""
    return () if _fused is None else tuple(_fused.instruction_sets())


class Kernels:
    """Training steps and scores of one plan.

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
            objective: what a step makes small.
            image_size: side of the images in pixels.
            threads: threads that share a step, 1 to 256; by default one for each core that this
                process may use.
            isa: one of `instruction_sets()`; by default the environment variable LENET_ENGINE,
                or else the best.

        Raises:
            LenetError: the kernels do not serve the network, the threads or the instruction set.
        """
        if _fused is None:
            raise LenetError(NOT_INSTALLED)
        planned = plan(architecture, image_size)
        if isinstance(planned, str):
            raise LenetError(planned)
        if threads is None:
            threads = min(usable_cores(), 256)
        if not 1 <= threads <= 256:
            raise LenetError(f"threads must be from 1 to 256, not {threads}")
        isa = instruction_set(instruction_sets(), isa)
        self.architecture, self.objective, self.image_size = architecture, objective, image_size
        self.threads, self.isa = threads, isa
        self.shapes = tuple(parameter.shape for parameter in architecture.parameters)
        self._kernels = _fused.FusedStep(describe(planned, objective), threads, isa)

    def parameters(
        self,
        weights: Sequence[NDArray[np.float32]],
        gradients: Sequence[NDArray[np.float32]],
    ) -> Any:
        """The caller's weights and gradients, looked at once for many steps.

        Args:
            weights: float32 arrays of `the network's parameters, in their order`, C-contiguous, read by each step.
            gradients: float32 arrays of the same shapes, overwritten by each step with the
                gradients of its mean loss.

        Raises:
            LenetError: an array has another dtype, shape or layout, or cannot be written.
        """
        self._check_parameters("weights", weights)
        self._check_parameters("gradients", gradients)
        for gradient in gradients:
            if not gradient.flags.writeable:
                raise LenetError("gradients must be writeable")
        assert _fused is not None
        return _fused.Parameters(list(weights), list(gradients))

    def step(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64],
        index: NDArray[np.int64],
        parameters: Any,
        maps: NDArray[np.float32] | None = None,
        knots: NDArray[np.float32] | None = None,
        shades: NDArray[np.float32] | None = None,
        noise: NDArray[np.int64] | None = None,
        targets: NDArray[np.float32] | None = None,
    ) -> tuple[float, int]:
        """Forward and backward pass of one batch.

        Args:
            images: uint8 (N, image_size, image_size), C-contiguous, as all arrays here.
            labels: int64 (N,), 0 to classes - 1.
            index: int64 (B,), which images make up the batch, 0 to N - 1.
            parameters: what `parameters` gave for a network of this plan.
            maps, knots, shades, noise: float32 (B, 2, 3), (B, 2, K, K), (B, 2) and int64 (B, 2),
                distortions of the images as `warp` has them; None for images as they are.
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
        _check_distortions(maps, knots, shades, noise, len(index))
        if (targets is not None) != bool(self.objective.distillation):
            raise LenetError("targets and the plan's distillation go together")
        if targets is not None:
            _check("targets", targets, np.float32, (len(index), self.architecture.classes))
        try:
            return self._kernels.step(
                *(images, labels, index, parameters, maps, knots, shades, noise, targets)
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
        scores = np.empty((len(images), self.architecture.classes), np.float32)
        if len(images):
            self._kernels.scores(images, list(weights), scores)
        return scores

    def _check_images(self, images: NDArray[Any]) -> None:
        side = self.image_size
        _check("images", images, np.uint8, (len(images), side, side))

    def _check_parameters(self, name: str, arrays: Sequence[NDArray[Any]]) -> None:
        if len(arrays) != len(self.shapes):
            raise LenetError(f"{name} must be {len(self.shapes)} arrays, not {len(arrays)}")
        for i, (array, shape) in enumerate(zip(arrays, self.shapes, strict=True)):
            _check(f"{name}[{i}]", array, np.float32, shape)


def warp(
    images: NDArray[np.uint8],
    index: NDArray[np.int64],
    maps: NDArray[np.float32],
    knots: NDArray[np.float32] | None = None,
    shades: NDArray[np.float32] | None = None,
    noise: NDArray[np.int64] | None = None,
    threads: int | None = None,
) -> NDArray[np.uint8]:
    """Chosen images, distorted; `lenet.training.augment.warp` says the same in PyTorch.

    Args:
        images: uint8 (N, H, H), C-contiguous, as all arrays here.
        index: int64 (B,), 0 to N - 1.
        maps: float32 (B, 2, 3), affine maps as `lenet.training.augment.Distortion.draw` gives them.
        knots: float32 (B, 2, K, K), elastic displacements from there; None for none.
        shades: float32 (B, 2), shades of paper and contrasts from there; None for none.
        noise: int64 (B, 2), seeds and chances from there; None for none.
        threads: threads that share the work; by default one for each core.

    Returns:
        uint8 (B, H, H).

    Raises:
        LenetError: an array has another dtype, shape or layout, or an index is out of range.
    """
    assert _fused is not None
    _check("index", index, np.int64, (len(index),))
    _check_distortions(maps, knots, shades, noise, len(index))
    _check("images", images, np.uint8, images.shape)
    out = np.empty((len(index), *images.shape[1:]), np.uint8)
    try:
        threads = threads or min(usable_cores(), 256)
        isa = instruction_set(instruction_sets())
        _fused.warp(images, index, maps, knots, shades, noise, out, threads, isa)
    except (ValueError, IndexError, TypeError) as error:
        raise LenetError(str(error)) from None
    return out


def _check_distortions(
    maps: NDArray[np.float32] | None,
    knots: NDArray[np.float32] | None,
    shades: NDArray[np.float32] | None,
    noise: NDArray[np.int64] | None,
    count: int,
) -> None:
    if maps is not None:
        _check("maps", maps, np.float32, (count, 2, 3))
    if knots is not None:  # the module knows how many there must be
        _check("knots", knots, np.float32, (count, *knots.shape[1:]))
    if shades is not None:
        _check("shades", shades, np.float32, (count, 2))
    if noise is not None:
        _check("noise", noise, np.int64, (count, 2))


def _check(name: str, array: NDArray[Any], dtype: Any, shape: tuple[int, ...]) -> None:
    if not isinstance(array, np.ndarray):
        raise LenetError(f"{name} must be a NumPy array, not {type(array).__name__}")
    if array.dtype != dtype:
        raise LenetError(f"{name} must be {np.dtype(dtype).name}, not {array.dtype}")
    if array.shape != shape:
        raise LenetError(f"{name} must have the shape {shape}, not {array.shape}")
    if not array.flags.c_contiguous:
        raise LenetError(f"{name} must be C-contiguous: use numpy.ascontiguousarray")
