"""Speed beside others."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from lenet.commands import parse, print_rows
from lenet.errors import LenetError

if TYPE_CHECKING:
    from lenet.bench import Bench, Scaling


@dataclass(frozen=True)
class BenchFlags:
    """Measures speed beside others', each in a process of its own, taking turns.

    `train` and `infer` compare training and answers of the textbook network with PyTorch, and with
    JAX, Keras, tinygrad, ONNX Runtime and OpenVINO where they are installed
    (pip install 'lenet[benchmark]'). `lenet5` is a pass of LeNet-5 of 1998 at batch size 1,
    `recipes` whole runs beside the articles' loop, `scaling` speed against batch size, threads and
    images. Let nothing else run meanwhile.
    """

    what: Positional[Literal["train", "infer", "lenet5", "recipes", "scaling"]]
    """What to measure."""
    rounds: int = 7
    """All but recipes: rounds in which all take their turn; the tables have medians."""
    batch_size: int = 256
    """train: images in a step."""
    threads: int | None = None
    """train, infer, lenet5: CPU threads; as many as this process may use by default."""
    device: str = "cpu"
    """train: cpu or cuda."""
    out: Path | None = None
    """scaling: draw the figure into this .png or .svg."""
    data_dir: str | None = None
    """Folder of the public data sets; $LENET_DATA or the cache folder by default."""
    json: bool = False
    """Print one JSON object."""


GOES_WITH = {  # the others go with all
    "rounds": ("train", "infer", "lenet5", "scaling"),
    "batch_size": ("train",),
    "threads": ("train", "infer", "lenet5"),
    "device": ("train",),
    "out": ("scaling",),
}


def run(flags: list[str]) -> int:
    asked = parse(BenchFlags, "bench", flags)
    default = BenchFlags(asked.what)
    for flag, what in GOES_WITH.items():
        if asked.what not in what and getattr(asked, flag) != getattr(default, flag):
            raise LenetError(f"--{flag.replace('_', '-')} goes with {', '.join(what)}")

    from lenet import bench

    match asked.what:
        case "recipes":
            runs = bench.whole_runs(data_dir=asked.data_dir)
            if asked.json:
                print(json.dumps([asdict(each) for each in runs]))
            else:
                print_rows(
                    "whole runs, from the start of the process to its end",
                    ["recipe", "epochs", "seconds", "the articles' loop takes"],
                    [
                        [
                            r.recipe,
                            f"{r.epochs}",
                            f"{r.seconds:.1f}",
                            f"{r.ratio:.2f} times as long",
                        ]
                        for r in runs
                    ],
                )
            return 0
        case "scaling":
            found = bench.scaling(asked.rounds, asked.data_dir)
            if asked.out:
                from lenet.bench import figure
                from lenet.figures import style

                drawn = figure.scaling(found.batch_size, found.threads, found.images)
                style.save(drawn, asked.out)
            print_scaling(found, asked.json)
            return 0
        case "train":
            result = bench.train(
                asked.rounds, asked.batch_size, asked.threads, asked.device, asked.data_dir
            )
        case "infer":
            result = bench.infer(asked.rounds, threads=asked.threads, data_dir=asked.data_dir)
        case "lenet5":
            result = bench.lenet5(asked.rounds, asked.threads, asked.data_dir)
    print_bench(result, asked.json)
    return 0


def print_bench(result: "Bench", as_json: bool) -> None:
    if as_json:
        print(json.dumps(result.as_dict()))
        return
    print_rows(
        result.title,
        [
            "",
            "batch",
            "images/s",
            "lowest",
            "highest",
            "us a batch",
            "ratio to first",
            "ours is",
            "of matrix product",
        ],
        [
            [
                row.name,
                f"{row.batch_size}",
                f"{row.rate:,.0f}",
                *(f"{rate:,.0f}" for rate in row.spread),
                f"{row.batch_size / row.rate * 1e6:,.0f}",
                f"{row.ratio:.2f}x",
                f"{row.behind:.2f}x as fast",
                f"{row.share:.1%}",
            ]
            for row in result.rows
        ],
    )
    for name, reason in result.left_out.items():
        print(f"left out: {name}: {reason}")
    print(f"matrix product: {result.gflops:.0f} GFLOP/s in the same run; {result.machine}")


def print_scaling(found: "Scaling", as_json: bool) -> None:
    if as_json:
        print(json.dumps(found.as_dict()))
        return
    for axis in ("batch_size", "threads", "images"):
        lines = getattr(found, axis)
        values = [value for value, _ in next(iter(lines.values()))]
        print_rows(
            f"images/s against {axis.replace('_', ' ')}",
            [axis.replace("_", " "), *lines],
            [
                [f"{value:,}", *(f"{points[i][1]:,.0f}" for points in lines.values())]
                for i, value in enumerate(values)
            ],
        )
    print(found.machine)
