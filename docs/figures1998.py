"""Draws the pictures of lenet5-1998.md: ``python docs/figures1998.py RUNS`` from the root.

RUNS holds the run folders lenet5-1998-SEED and lenet5-1998-distorted-SEED, seeds 0 to 4, as
``lenet train RECIPE --seed SEED --out RUNS/RECIPE-SEED`` writes them. Kernels, codes and mistakes
are those of the networks that come with the package.
"""

import sys
from math import nan
from pathlib import Path

import numpy as np
import plots1998
import torch

import lenet
from lenet.evaluation.metrics import worst
from lenet.figures import plots
from lenet.networks.codebook import c3_table, digit_codes
from lenet.training.runs import read_metrics

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


def main(runs: Path) -> None:
    records = {
        title: [read_metrics(runs / f"{recipe}-{seed}") for seed in SEEDS]
        for recipe, title in PANELS.items()
    }
    plots.save(plots1998.error_curves(records, PAPER), FOLDER / "1998-errors.png")
    test = lenet.data.load("mnist").test
    for recipe, suffix in (("lenet5-1998", ""), ("lenet5-1998-distorted", "-distorted")):
        model = lenet.load(recipe)
        with torch.no_grad():
            activations = lenet.trace(model, model.prepare(test.images))
        scores = activations["output"].numpy()
        mistakes = plots1998.all_mistakes(test.images, test.labels, scores.argmax(1))
        plots.save(mistakes, FOLDER / f"1998-mistakes{suffix}.png")
        if suffix:
            continue
        weights = {name: p.detach().numpy() for name, p in model.named_parameters()}
        kernels = plots1998.kernels(weights["C1.weight"], weights["C3.weight"], c3_table())
        plots.save(kernels, FOLDER / "1998-kernels.png")
        firsts = [int(np.flatnonzero(test.labels == digit)[0]) for digit in range(10)]
        shown = [*firsts, *worst(scores, test.labels, 3).tolist()]
        codes = plots1998.f6_codes(
            test.images[shown],
            test.labels[shown],
            activations["F6"].numpy()[shown],
            digit_codes(),
        )
        plots.save(codes, FOLDER / "1998-codes.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
