"""Uses extension modules hard: many threads, sizes and networks, and a fork. A program, no test.

    python hard_use.py FOLDER SET...    modules from that folder, and instruction sets to use

Run by test_sanitizers.py with modules that were built to watch themselves.
"""

import importlib.util
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np


def load(folder: Path, name: str) -> Any:
    """The extension module lenet.engine.NAME from a folder of its own."""
    (file,) = folder.glob(f"{name}.*.so")
    spec = importlib.util.spec_from_file_location(f"lenet.engine.{name}", file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


_, folder, *SETS = sys.argv
MODULES = "_fused", "_single", "_sequential", "_patterns"
native = {name: load(Path(folder), name) for name in MODULES}

from lenet.data.distortion import Warps  # noqa: E402
from lenet.engine import fused, patterns, sequential, single  # noqa: E402
from lenet.engine.optimizers import SGD, AdamW  # noqa: E402
from lenet.networks.architecture import build  # noqa: E402

assert fused._fused is native["_fused"]
assert single._single is native["_single"]
assert sequential.native is native["_sequential"]
assert patterns._patterns is native["_patterns"]

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (60, 28, 28), np.uint8)
LABELS = RANDOM.integers(0, 10, 60)
BOOK = {
    "input_size": 28, "in_channels": 1, "classes": 10, "channels": [6, 16],
    "kernel_sizes": [5, 5], "padding": [2, 0], "hidden": [120, 84], "activation": "sigmoid",
    "pooling": "average", "mean": 0.0, "std": 1.0,
}  # fmt: skip
ODD = {
    "input_size": 33, "channels": [7, 5, 9], "kernel_sizes": [3, 4, 2], "padding": [1, 2, 1],
    "hidden": [19], "classes": 3, "activation": "silu", "pooling": "max",
}  # fmt: skip
NETWORKS: list[tuple[str, dict[str, Any]]] = [
    ("LeNet", BOOK),
    ("LeNet", {**BOOK, **ODD}),
    ("LeNet5", {"subsampling": "average", "head": "rbf"}),
    ("LeNet5s", {}),
    ("LeNet4", {}),
]


def use_batches(isa: str) -> None:
    for network, options in NETWORKS:
        architecture = build(network, options)
        labels = LABELS % architecture.classes
        weights = fused.flatten(architecture.initial_weights(0).values())
        shared = fused.Kernels(architecture, threads=3, isa=isa)

        def work(
            batch: int, of: Any = architecture, labels=labels, weights=weights, kernels=shared
        ) -> None:
            own = fused.Kernels(of, threads=2, isa=isa)
            index = np.arange(batch)
            maps = np.tile(np.array([[1, 0.1, 0.5], [0, 1, -3]], np.float32), (batch, 1, 1))
            knots = np.ones((batch, 2, 7, 7), np.float32)
            shades = np.tile(np.array([20, 0.8], np.float32), (batch, 1))
            noise = np.tile(np.array([2**32 - 1, 2**30]), (batch, 1))
            warps = Warps(maps, knots, shades, noise)
            for some in (kernels, own):
                for optimizer in (SGD(), SGD(momentum=0.9), AdamW()):
                    mine, gradients = weights.copy(), np.empty_like(weights)
                    state = np.zeros((optimizer.states, len(mine)), np.float32)
                    parameters = some.parameters(
                        mine, gradients, optimizer, state, weights.copy(), 0.9
                    )
                    some.step(IMAGES, labels, index, parameters, warps)
                    update = optimizer.coefficients(0.1, 1)
                    some.step(IMAGES, labels, index, parameters, update=update)
                kernels.scores(IMAGES[:batch], weights)
                fused.warp(IMAGES, index, warps, 2)

        together(work, [1, 7, 17, 33])
        if network == "LeNet5":
            in_a_child(lambda work=work: work(20))


def use_single_images(isa: str) -> None:
    for network, options in NETWORKS:
        architecture = build(network, options)
        kernels = single.SingleImage(architecture, architecture.initial_weights(0), isa)

        def work(number: int, kernels=kernels) -> None:
            for image in IMAGES[number : number + 3]:
                kernels.trace(image)
                kernels.scores(image)

        together(work, [0, 10, 20])
        in_a_child(lambda work=work: work(5))


def use_patterns(isa: str) -> None:
    architecture = build("LeNet5", {})

    def work(number: int) -> None:
        weights = fused.flatten(architecture.initial_weights(0).values())
        trainer = sequential.Patterns(architecture, weights, sequential.Criterion(), isa)
        present(trainer, weights, number)

    together(work, [0, 20, 40])


def use_other_patterns() -> None:
    for network in ("LeNet1989", "LeNet4"):
        architecture = build(network, {})

        def work(number: int, of: Any = architecture) -> None:
            weights = fused.flatten(of.initial_weights(0).values())
            present(patterns.Patterns(of, weights), weights, number)

        together(work, [0, 20, 40])


def present(trainer: Any, weights: Any, number: int) -> None:
    order = np.arange(number, number + 3)
    trainer.train(IMAGES, LABELS, order, np.full_like(weights, 1e-4))
    trainer.curvature(IMAGES, LABELS, order)


def together(work: Any, arguments: list[int]) -> None:
    with ThreadPoolExecutor(len(arguments)) as pool:
        list(pool.map(work, arguments))


def in_a_child(work: Any) -> None:
    if (child := os.fork()) == 0:
        work()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


for isa in SETS:
    use_batches(isa)
    use_single_images(isa)
    use_patterns(isa)
use_other_patterns()
print("used")
