"""Engines: what executes training steps and gives scores, and which one serves a network.

"fused" is our own CPU kernel (a whole step in one call); "graph" is PyTorch with the whole step
captured as one CUDA graph; "autograd" is PyTorch step by step. This module decides; it does not
import PyTorch, so that a trained network can answer without it.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lenet.engine import fused, plans
from lenet.errors import LenetError

IMAGE_SIZE = 28  # of the images that networks are given, whatever they make of them
ENGINES = ("auto", "fused", "graph", "autograd")


def plan(
    network: str,
    options: Mapping[str, Any],
    loss: str = "cross-entropy",
    label_smoothing: float = 0.0,
    j: float = 10.0,
    distillation: float = 0.0,
    temperature: float = 1.0,
) -> plans.Plan | str:
    """What the fused kernels need to know of a network, or one sentence why they cannot serve.

    Args:
        network: class name in `lenet.networks.models`.
        options: arguments of its constructor, as `Network.options` gives them.
        loss, label_smoothing, j, distillation, temperature: as in a recipe.
    """
    if network not in plans.NETWORKS:
        return f"there are no fused kernels for {network}"
    found = plans.NETWORKS[network](options, IMAGE_SIZE)
    if isinstance(found, str):
        return found
    found = replace(
        found,
        loss=loss,
        label_smoothing=label_smoothing,
        j=j,
        distillation=distillation,
        temperature=temperature,
    )
    return fused.unsupported(found) or found


def choose(asked: str, device: str, found: plans.Plan | str) -> tuple[str, str]:
    """(engine, reason) for what was asked for, one of `ENGINES`.

    Raises:
        LenetError: "fused" or "graph" was asked for and cannot serve.
    """
    if asked not in ENGINES:
        raise LenetError(f"engine must be one of {', '.join(ENGINES)}, not {asked!r}")
    obstacle = found if isinstance(found, str) else None
    if device != "cpu":
        obstacle = f"the fused kernels run on the CPU, not on {device}"
    if asked == "autograd":
        return "autograd", "asked for"
    on_cuda = device.startswith("cuda")
    if asked == "graph" and not on_cuda:
        raise LenetError(f"the engine graph needs a CUDA device, not {device}")
    if asked == "graph" or (asked == "auto" and on_cuda):
        return "graph", "asked for" if asked == "graph" else "CUDA devices run whole steps fastest"
    if asked == "fused" and obstacle:
        raise LenetError(f"the fused engine cannot serve here: {obstacle}")
    if obstacle:
        return "autograd", obstacle
    return "fused", "asked for" if asked == "fused" else "it serves this network and is faster"
