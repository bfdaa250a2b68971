"""Times the parts of a training step beside the limits of the processor: docs/engine.md.

    python benchmarks/roofline.py [--out docs/figures/roofline.png]

Compiles roofline.cpp with the engine's headers (this needs a C++20 compiler: $CXX or c++), runs it
on one core and prints a table of the parts. Run nothing else meanwhile. With --out it draws each
part into a roofline diagram: operations a second against operations for each byte that the part
must read or leave to others.
"""

import csv
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tyro

from lenet.engine.fused import instruction_sets
from lenet.errors import LenetError
from lenet.figures import style
from lenet.tables import table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HERE = Path(__file__).parent
# As CMakeLists.txt has them.
FLAGS = ("-std=c++20", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math",
         "-fno-signed-zeros")  # fmt: skip
INSTRUCTION_SETS = {
    "avx512": ("-mtune=icelake-server", "-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl",
               "-mfma", "-mprefer-vector-width=512", "-DLENET_ISA=avx512", "-DLENET_ISA_AVX512=1"),
    "avx2": ("-mavx2", "-mfma", "-DLENET_ISA=avx2", "-DLENET_ISA_AVX2=1"),
    "portable": ("-DLENET_ISA=portable", "-DLENET_ISA_PORTABLE=1"),
}  # fmt: skip
LANES = {"avx512": 16, "avx2": 8, "portable": 4}
BATCH = 256
TO_THE_RIGHT = ("C1 backward", "C3 forward", "C3 backward", "dense weights")  # labels


@dataclass(frozen=True)
class Part:
    """A part of the step, for one example.

    Attributes:
        name: as roofline.cpp prints it.
        products: multiply-adds by the definition of the layer.
        values: floats of the example that it reads or leaves to others.
        shared: floats that it reads or writes once for all examples of a tile.
        saved: share of the products that remains with minimal filtering.
    """

    name: str
    products: int
    values: int
    shared: int = 0
    saved: float = 1.0

    def intensity(self, lanes: int) -> float:
        """Operations per byte."""
        return 2 * self.products / (4 * (self.values + self.shared / lanes))


MAPS1, MAPS3, POOLED1, POOLED3 = 6 * 28 * 28, 16 * 10 * 10, 6 * 14 * 14, 16 * 5 * 5
FILTERED1, FILTERED3 = 8 * 32 * 7, 9 * 6 * 14 * 2  # transformed inputs
UNITS, WEIGHTS = 120 + 84 + 10, 400 * 120 + 120 * 84 + 84 * 10
INPUTS = 400 + 120 + 84
# The sums of C3's weight gradient are 9 points of 5 rows of each kernel, in all lanes.
SUMS3 = 2 * 9 * 5 * 96
PARTS = (
    Part("C1 forward", 117_600, 32 * 32 + FILTERED1 + MAPS1 + POOLED1, 0, 8 / 20),
    Part("C1 backward", 117_600, FILTERED1 + MAPS1 + POOLED1, 0, 8 / 20),
    Part("C3 forward", 240_000, POOLED1 + FILTERED3 + MAPS3 + POOLED3, 9 * 5 * 96, 9 / 25),
    Part("C3 backward", 480_000, FILTERED3 + MAPS3 + POOLED3 + POOLED1 + SUMS3, 9 * 5 * 96, 9 / 25),
    Part("dense forward", WEIGHTS, 400 + 2 * UNITS, WEIGHTS),
    Part("dense backward", WEIGHTS, 3 * INPUTS + UNITS, WEIGHTS),
    # The sums are written once and read and written again for each further 64 examples.
    Part("dense weights", WEIGHTS, INPUTS + UNITS + (2 * BATCH // 64 - 1) * WEIGHTS // BATCH),
)


def measure(isa: str) -> tuple[dict[str, float], dict[str, float]]:
    """Roofs (GFLOP/s of registers, then GB/s) and seconds an example of each part."""
    with tempfile.TemporaryDirectory() as folder:
        program = str(Path(folder) / "roofline")
        line = [os.environ.get("CXX", "c++"), *FLAGS, *INSTRUCTION_SETS[isa]]
        line += ["-I", str(HERE.parent / "lenet" / "engine" / "src")]
        subprocess.run([*line, str(HERE / "roofline.cpp"), "-o", program], check=True)
        output = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    numbers: dict[str, dict[str, float]] = {"roof": {}, "part": {}}
    for kind, name, number in csv.reader(output.splitlines()):
        numbers[kind][name] = float(number)
    return numbers["roof"], numbers["part"]


@style.styled
def draw(roofs: dict[str, float], seconds: dict[str, float], lanes: int, title: str) -> "Figure":
    label: dict[str, Any]
    figure = style.canvas(7.4, 4.3, title)
    axes = figure.subplots()
    x = np.geomspace(0.25, 64, 400)
    (_, peak), *bandwidths = roofs.items()
    grey = {"color": style.GREY, "fontsize": 8, "va": "bottom"}
    for (name, rate), start in zip(bandwidths, (0.28, 0.45, 1.4), strict=True):
        axes.plot(x, np.minimum(peak, rate * x), color=style.GREY, linewidth=1.2)
        words = f"{name}: {rate:.0f} GB/s"
        axes.text(start, rate * start * 1.05, words, rotation=38, rotation_mode="anchor", **grey)
    axes.text(2.5, peak * 1.03, f"registers: {peak:.0f} GFLOP/s", **grey)
    for part in PARTS:
        at, rate = part.intensity(lanes), 2e-9 * part.products / seconds[part.name]
        axes.plot(at, rate, "o", color=style.BLUE, markersize=6)
        right = part.name in TO_THE_RIGHT
        label = {"textcoords": "offset points", "ha": "left" if right else "right", "fontsize": 8}
        axes.annotate(part.name, (at, rate), xytext=(7, -8) if right else (-7, 0), **label)
        if part.saved < 1:
            less = np.array([1, part.saved])
            axes.plot(at * less, rate * less, color=style.LINE, zorder=0)
            axes.plot(at * part.saved, rate * part.saved, "o", mfc="white", color=style.BLUE)
    products = sum(part.products for part in PARTS)
    at = products / sum(part.products / part.intensity(lanes) for part in PARTS)
    rate = 2e-9 * products / sum(seconds.values())
    axes.plot(at, rate, "D", color=style.ORANGE, markersize=8)
    label = {"textcoords": "offset points", "fontsize": 9, "color": style.ORANGE, "weight": "bold"}
    axes.annotate(f"whole step: {rate:.0f}", (at, rate), xytext=(9, -4), **label)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set(xlim=(0.25, 64), ylim=(8, 512), ylabel="GFLOP/s, one thread")
    axes.set_xlabel("operations for each byte read or left to others")
    return figure


def main(out: Path | None = None) -> None:
    if not instruction_sets():
        raise LenetError("the compiled kernels are not installed")
    isa = instruction_sets()[0]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    roofs, seconds = measure(isa)
    whole, products = sum(seconds.values()), {part.name: part.products for part in PARTS}
    print(
        table(
            f"a training step, {isa}, batch {BATCH}, one thread: {whole * 1e6:.2f} us an example",
            ["", "share", "GFLOP/s"],
            [
                [name, f"{each / whole:.1%}", f"{2e-9 * products.get(name, 0) / each:.0f}"]
                for name, each in seconds.items()
            ],
        )
    )
    print(", ".join(f"{name} {rate:.0f}" for name, rate in roofs.items()))
    if out:
        title = f"A training step of the d2l network, {isa}, batch {BATCH}"
        style.save(draw(roofs, seconds, LANES[isa], title), out)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
