"""The fused CPU kernels: a whole training step of a planned network in one call, in float32.

docs/engine.md describes the kernels. Nothing here imports PyTorch.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet.engine.optimizers import Optimizer
from lenet.engine.plans import Plan, Stage, obstacle
from lenet.engine.processor import instruction_set, usable_cores
from lenet.errors import LenetError
from lenet.networks.codebook import digit_codes

try:
    from lenet.engine import _fused
except ImportError:  # pure Python installation
    _fused = None

NOT_INSTALLED = "the compiled kernels are not installed"


def unsupported(plan: Plan) -> str | None:
    """None if the kernels serve this plan, else one sentence why not."""
    return NOT_INSTALLED if _fused is None else obstacle(plan)


def instruction_sets() -> tuple[str, ...]:
    """What this processor can run, best first: of "avx512", "avx2", and always "portable"."""
    return () if _fused is None else tuple(_fused.instruction_sets())


class Kernels:
    """Training steps and scores of one plan.

    Attributes:
        shapes: of the parameters, in their order.
        size: numbers in all parameters.

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
        isa = instruction_set(instruction_sets(), isa)
        self.plan, self.threads, self.isa = plan, threads, isa
        self.shapes = plan.shapes
        self.size = sum(map(math.prod, plan.shapes))
        assert _fused is not None
        self._kernels = _fused.FusedStep(describe(plan), threads, isa)

    def parameters(
        self,
        weights: NDArray[np.float32],
        gradients: NDArray[np.float32],
        optimizer: Optimizer | None = None,
        state: NDArray[np.float32] | None = None,
        average: NDArray[np.float32] | None = None,
        averaging: float = 0.0,
    ) -> Any:
        """The caller's arrays, looked at once for many steps, which use them in place.

        Args:
            weights: float32 (N,), C-contiguous as all arrays here: all parameters of the plan in
                their order; `views` has them one by one. Read by each step, changed by an update.
            gradients: float32 (N,), overwritten by each step with the gradients of its mean loss.
            optimizer: what updates the weights; None if nothing does.
            state: float32 (optimizer.states, N), zeros before the first update; None if the
                optimizer has no state.
            average: float32 (N,), moving average of the weights after each update; None for none.
            averaging: what the average keeps in an update, 0 to 1.

        Raises:
            LenetError: an array has another dtype, shape or layout, or cannot be written.
        """
        arrays: dict[str, tuple[Any, tuple[int, ...]]] = {
            "weights": (weights, (self.size,)),
            "gradients": (gradients, (self.size,)),
        }
        if optimizer and optimizer.states:
            arrays["state"] = state, (optimizer.states, self.size)
        else:
            state = None
        if average is not None:
            arrays["average"] = average, (self.size,)
        for name, (array, shape) in arrays.items():
            _check(name, array, np.float32, shape)
            if not array.flags.writeable:
                raise LenetError(f"{name} must be writeable")
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
        maps: NDArray[np.float32] | None = None,
        knots: NDArray[np.float32] | None = None,
        shades: NDArray[np.float32] | None = None,
        noise: NDArray[np.int64] | None = None,
        targets: NDArray[np.float32] | None = None,
        update: Sequence[float] | None = None,
    ) -> tuple[float, int]:
        """Forward and backward pass of one batch, and perhaps the update of the weights.

        Args:
            images: uint8 (N, image_size, image_size), C-contiguous, as all arrays here.
            labels: int64 (N,), 0 to classes - 1.
            index: int64 (B,), which images make up the batch, 0 to N - 1.
            parameters: what `parameters` gave for a network of this plan.
            maps, knots, shades, noise: float32 (B, 2, 3), (B, 2, K, K), (B, 2) and int64 (B, 2),
                distortions of the images as `warp` has them; None for images as they are.
            targets: float32 (B, classes), distributions over the classes, given if and only if
                the plan has distillation.
            update: the optimizer's coefficients of this step; None leaves weights, state and
                average as they are.

        Returns:
            Mean loss over the batch, and how many labels have the largest score.

        Raises:
            LenetError: an array has another dtype, shape or layout, or a value is out of range.
        """
        given = (images, labels, index, parameters, maps, knots, shades, noise, targets, update)
        try:
            return self._kernels.step(*given)
        except (ValueError, IndexError) as error:
            raise LenetError(str(error)) from None
        except TypeError:  # only now, as it takes longer than the call: which array is it?
            self._check_images(images)
            _check("labels", labels, np.int64, (len(images),))
            _check("index", index, np.int64, (len(index),))
            _check_distortions(maps, knots, shades, noise, len(index))
            if targets is not None:
                _check("targets", targets, np.float32, (len(index), self.plan.classes))
            raise

    def scores(
        self, images: NDArray[np.uint8], weights: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Scores (N, classes) of uint8 images (N, image_size, image_size); weights as above.

        Raises:
            LenetError: an array has another dtype, shape or layout.
        """
        self._check_images(images)
        _check("weights", weights, np.float32, (self.size,))
        scores = np.empty((len(images), self.plan.classes), np.float32)
        if len(images):
            self._kernels.scores(images, weights, scores)
        return scores

    def _check_images(self, images: NDArray[Any]) -> None:
        side = self.plan.image_size
        _check("images", images, np.uint8, (len(images), side, side))


def flatten(arrays: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
    """A copy of the arrays behind each other in one flat array."""
    return np.concatenate([array.ravel() for array in arrays])


def views(
    flat: NDArray[np.float32], shapes: Iterable[tuple[int, ...]]
) -> list[NDArray[np.float32]]:
    """Arrays of those shapes behind each other in the memory of a flat one, which they fill."""
    arrays, start = [], 0
    for shape in shapes:
        end = start + math.prod(shape)
        arrays.append(flat[start:end].reshape(shape))
        start = end
    return arrays


def describe(plan: Plan) -> dict[str, Any]:
    """The plan as the compiled module reads it: every size worked out, and where in the arrays of
    parameters everything lies."""
    # Pooling leaves a last odd row and column out: nothing is computed for them, and what only they
    # would read is not computed either. So the sides are found from the last stage to the first.
    stages: list[dict[str, Any]] = []
    pooled = plan.sides[-1]
    for stage, inputs, side in zip(
        plan.stages[::-1], plan.maps[-2::-1], plan.sides[-2::-1], strict=True
    ):
        read = min(side, 2 * pooled + stage.kernel - 1 - stage.padding)
        stages.insert(
            0,
            {
                "inputs": inputs,
                "outputs": stage.outputs,
                "kernel": stage.kernel,
                "padding": stage.padding,
                "input_side": read,
                "side": 2 * pooled,
                "activation": stage.activation,
                "pooling": stage.pooling,
                "subsampling": stage.subsampling,
                "shared": stage.groups is not None and any(len(g) > 1 for g in stage.groups),
            },
        )
        pooled = read
    array = 0
    for stage, fields in zip(plan.stages, stages, strict=True):
        fields["kernels"], fields["biases"], used = places(stage, fields["inputs"], array)
        array += used
        fields["coefficients"], fields["shifts"] = array, array + 1
        array += 2 if stage.subsampling else 0
    layers = []
    for number, (inputs, outputs) in enumerate(plan.layers):
        hidden = number < len(plan.hidden)
        layers.append(
            {
                "inputs": inputs,
                "outputs": outputs,
                "activation": plan.activation if hidden else None,
                "weight": array,
                "bias": array + 1,
            }
        )
        array += 2
    return {
        "image_size": plan.image_size,
        "input_size": plan.input_size,
        "resampling": resampling(plan.image_size, plan.input_size) if plan.resize else None,
        "mean": plan.mean,
        "std": plan.std,
        "stages": stages,
        "layers": layers,
        "codes": digit_codes() if plan.head == "rbf" else None,
        "classes": plan.classes,
        "loss": plan.loss,
        "label_smoothing": plan.label_smoothing,
        "j": plan.j,
        "distillation": plan.distillation,
        "temperature": plan.temperature,
        "sizes": [int(np.prod(shape)) for shape in plan.shapes],
    }


def places(
    stage: Stage, inputs: int, array: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], int]:
    """Where the kernels of a stage lie (outputs, inputs, 2) and its biases (outputs, 2), each as
    the number of an array and an offset in it, -1 where maps are not connected; and how many
    arrays they take, from number `array` on."""
    kernels = np.full((stage.outputs, inputs, 2), -1, np.int32)
    biases = np.empty((stage.outputs, 2), np.int32)
    size = stage.kernel**2
    if stage.groups is None:
        connections = np.arange(stage.outputs * inputs).reshape(stage.outputs, inputs)
        kernels[..., 0], kernels[..., 1] = array, connections * size
        biases[:, 0], biases[:, 1] = array + 1, np.arange(stage.outputs)
        return kernels, biases, 2
    output = first = 0
    for number, group in enumerate(stage.groups):
        own, start, bias = (array + 2 * number, 0, 0) if stage.separate else (array, first, number)
        for maps in group:
            for position, read in enumerate(maps):
                kernels[output, read] = own, (start + position) * size
            biases[output] = own + 1, bias
            output += 1
        first += len(group[0])
    return kernels, biases, 2 * len(stage.groups) if stage.separate else 2


def resampling(size: int, wanted: int) -> NDArray[np.float32]:
    """Weights (wanted, size) that resize rows of pixels as PyTorch does: bilinearly, and with the
    triangle widened to the pixels that one new pixel covers where it shrinks them."""
    scale = size / wanted
    width = max(scale, 1.0)
    centres = (np.arange(wanted) + 0.5) * scale
    distances = np.abs(np.arange(size) + 0.5 - centres[:, None]) / width
    weights = np.maximum(1 - distances, 0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


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
