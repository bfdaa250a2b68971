"""Speed beside others."""

import json
from dataclasses import dataclass
from typing import Literal

from tyro.conf import Positional

from lenet.commands import parse, print_rows


@dataclass(frozen=True)
class BenchFlags:
    """Measures training speed beside PyTorch's, interleaved in one process."""

    what: Positional[Literal["train"]]
    """What to measure: train."""
    rounds: int = 7
    """Interleaved rounds; the table has medians."""
    batch_size: int = 256
    """Images in a step."""
    threads: int | None = None
    """CPU threads; as many as this process may use by default."""
    data_dir: str | None = None
    """Folder of the public data sets; $LENET_DATA or the cache folder by default."""
    json: bool = False
    """Print one JSON object."""


def run(flags: list[str]) -> int:
    asked = parse(BenchFlags, "bench", flags)

    from lenet import bench

    result = bench.bench_train(asked.rounds, asked.batch_size, asked.threads, asked.data_dir)
    if asked.json:
        print(json.dumps(result.as_dict()))
        return 0
    print_rows(
        result.title,
        ["", "examples/s", "lowest", "highest", "ratio", "of the matrix product"],
        [
            [
                row.name,
                f"{row.rate:,.0f}",
                *(f"{rate:,.0f}" for rate in row.spread),
                f"{row.ratio:.2f}x",
                f"{row.share:.1%}",
            ]
            for row in result.rows
        ],
    )
    for name, reason in result.left_out.items():
        print(f"left out: {name}: {reason}")
    print(f"matrix product: {result.gflops:.0f} GFLOP/s in the same run; {result.machine}")
    return 0
