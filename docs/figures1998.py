"""Draws the figures of lenet5-1998.md: ``python docs/figures1998.py RUNS`` from the root.

RUNS holds the run folders lenet5-1998-SEED and lenet5-1998-distorted-SEED, seeds 0 to 4, as
``lenet train RECIPE --seed SEED --out RUNS/RECIPE-SEED`` writes them. Kernels, codes and mistakes
are those of the networks that come with the package; without RUNS only they are drawn.
"""

import json
import sys
from math import nan
from pathlib import Path

import numpy as np
import plots1998

from lenet import data
from lenet.engine.scores import tracer
from lenet.evaluation.metrics import worst
from lenet.figures.evaluation import mistakes
from lenet.figures.networks import kernels
from lenet.figures.style import save
from lenet.networks import checkpoint
from lenet.networks.codebook import digit_codes

FOLDER = Path(__file__).parent / "figures"
SEEDS = range(5)
PANELS = {"lenet5-1998": "as it is", "lenet5-1998-distorted": "with distortions"}
PAPER = {  # figures 5 and 9 and section III.B; (pass, error in %)
    "as it is": {
        "test": [(1, 2.7), (nan, nan), (10, 0.95), (20, 0.95)],
        "train": [(1, 4.9), (19, 0.35)],
    },
    "with distortions": {"test": [(20, 0.8)]},
}


def records(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def main(runs: Path | None) -> None:
    if runs:
        of_panels = {
            title: [records(runs / f"{recipe}-{seed}") for seed in SEEDS]
            for recipe, title in PANELS.items()
        }
        save(plots1998.error_curves(of_panels, PAPER), FOLDER / "1998-errors.png")
    test = data.load("mnist").test
    images, labels = test.images, test.labels
    for recipe, suffix in (("lenet5-1998", ""), ("lenet5-1998-distorted", "-distorted")):
        model = checkpoint.read(recipe)
        traces = [*map(tracer(model), images)]
        scores = np.array([trace["output"] for trace in traces])
        wrong = np.flatnonzero(scores.argmax(1) != labels)
        title = f"{len(wrong)} mistakes on {len(labels):,} images"
        shares = scores / model.temperature
        figure = mistakes(images, labels, shares, model.classes, wrong, title, columns=12)
        save(figure, FOLDER / f"1998-mistakes{suffix}.png")
        if suffix:
            continue
        title = "The learned kernels: red excites, blue inhibits"
        save(kernels(model, title, only=("C1", "C3")), FOLDER / "1998-kernels.png")
        firsts = [int(np.flatnonzero(labels == digit)[0]) for digit in range(10)]
        shown = [*firsts, *worst(scores, labels, 3).tolist()]
        features = np.array([traces[i]["F6"] for i in shown])
        codes = plots1998.f6_codes(images[shown], labels[shown], features, digit_codes())
        save(codes, FOLDER / "1998-codes.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
