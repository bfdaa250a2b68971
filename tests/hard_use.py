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
native = {name: load(Path(folder), name) for name in ("_fused", "_single", "_sequential")}

from lenet import engine  # noqa: E402
from lenet.engine import fused, single  # noqa: E402
from lenet.engine.optimizers import SGD, AdamW  # noqa: E402
from lenet.networks import codebook  # noqa: E402

assert fused._fused is native["_fused"]
assert single._single is native["_single"]

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
]


def arrays(shapes: tuple[tuple[int, ...], ...]) -> list[np.ndarray]:
    return [RANDOM.uniform(-0.1, 0.1, shape).astype(np.float32) for shape in shapes]


def use_batches(isa: str) -> None:
    for network, options in NETWORKS:
        plan = engine.plan(network, options)
        assert not isinstance(plan, str), plan
        labels, weights = LABELS % plan.classes, fused.flatten(arrays(plan.shapes))
        shared = fused.Kernels(plan, 3, isa)

        def work(batch: int, plan=plan, labels=labels, weights=weights, kernels=shared) -> None:
            own = fused.Kernels(plan, 2, isa)
            index = np.arange(batch)
            maps = np.tile(np.array([[1, 0.1, 0.5], [0, 1, -3]], np.float32), (batch, 1, 1))
            knots = np.ones((batch, 2, 7, 7), np.float32)
            shades = np.tile(np.array([20, 0.8], np.float32), (batch, 1))
            noise = np.tile(np.array([2**32 - 1, 2**30]), (batch, 1))
            for some in (kernels, own):
                for optimizer in (SGD(), SGD(momentum=0.9), AdamW()):
                    mine, gradients = weights.copy(), np.empty_like(weights)
                    state = np.zeros((optimizer.states, len(mine)), np.float32)
                    parameters = some.parameters(
                        mine, gradients, optimizer, state, weights.copy(), 0.9
                    )
                    some.step(IMAGES, labels, index, parameters, maps, knots, shades, noise)
                    update = optimizer.coefficients(0.1, 1)
                    some.step(IMAGES, labels, index, parameters, update=update)
                kernels.scores(IMAGES[:batch], weights)
                fused.warp(IMAGES, index, maps, knots, shades, noise, 2)

        together(work, [1, 7, 17, 33])
        if network == "LeNet5":
            in_a_child(lambda work=work: work(20))


def use_single_images(isa: str) -> None:
    for network, options in NETWORKS:
        plan = engine.plan(network, options)
        assert not isinstance(plan, str), plan
        kernels = single.SingleImage(network, options, named(network, options, plan.shapes), isa)

        def work(number: int, kernels=kernels) -> None:
            for image in IMAGES[number : number + 3]:
                kernels.trace(image)
                kernels.scores(image)

        together(work, [0, 10, 20])
        in_a_child(lambda work=work: work(5))


def named(
    network: str, options: dict[str, Any], shapes: tuple[tuple[int, ...], ...]
) -> dict[str, np.ndarray]:
    """Weights by the names that a file of that network has."""
    if network == "LeNet5":
        names = [f"{layer}.{n}" for layer in ("C1", "S2", "C3", "S4", "C5", "F6") for n in ("", "")]
        for i in range(0, 12, 2):
            first = "coefficient" if names[i][0] == "S" else "weight"
            names[i], names[i + 1] = names[i] + first, names[i + 1] + "bias"
    else:
        layers = (
            ["C1", *(f"C3.{group}" for group in codebook.C3_GROUPS), "C5", "F6", "output"]
            if network == "LeNet5s"
            else [f"C{2 * i + 1}" for i in range(len(options["channels"]))]
        )
        if network == "LeNet":
            number = 2 * len(layers) + 1
            for i in range(len(options["hidden"])):
                layers.append(f"{'F' if i else 'C'}{number + i}")
            layers.append("output")
        names = [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]
    return dict(zip(names, arrays(shapes), strict=True))


def use_patterns(isa: str) -> None:
    plan = engine.plan("LeNet5", {"subsampling": "average", "head": "rbf"})
    assert not isinstance(plan, str)
    network = native["_sequential"].Network(
        codebook.digit_codes(), codebook.c3_table(), "average", "map", 10.0, False, isa
    )

    def work(number: int) -> None:
        weights, steps = arrays(plan.shapes), [np.full(s, 1e-4, np.float32) for s in plan.shapes]
        order = np.arange(number, number + 3)
        network.train(weights, steps, IMAGES, LABELS, order)
        network.curvature(weights, arrays(plan.shapes), IMAGES, LABELS, order)

    together(work, [0, 20, 40])


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
print("used")
