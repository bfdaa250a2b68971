"""Measuring a trained network."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from lenet.commands import parse, print_report
from lenet.tables import table


@dataclass(frozen=True)
class EvaluateFlags:
    """Measures a trained network: error, loss, classes, confusions, rejection, worst mistakes."""

    model: Positional[Annotated[str, tyro.conf.arg(metavar="MODEL")]]
    """A run folder, a weights file, latest (the newest run), or one of `lenet models`."""
    data: str | None = None
    """A data set or folder; by default the one that the network was trained on."""
    corruptions: bool = False
    """Also measure the error under the fifteen corruptions of MNIST-C: noise, blur, fog ..."""
    out: Path | None = None
    """Write report.json and figures into this folder."""
    engine: Literal["auto", "fused", "numpy"] = "auto"
    """What computes the scores: our fused CPU kernels, or NumPy."""
    threads: int | None = None
    """CPU threads; by default as many as this process may use."""
    data_dir: str | None = None
    """Folder of the public data sets; by default $LENET_DATA or the cache folder."""
    json: bool = False
    """Print the report as one JSON object."""


def run(flags: list[str]) -> int:
    arguments = parse(EvaluateFlags, "evaluate", flags)

    from lenet import data
    from lenet.engine.scores import scorer
    from lenet.evaluation import evaluate, metrics
    from lenet.networks import checkpoint

    model = checkpoint.read(arguments.model)
    name = arguments.data or model.data
    dataset = data.load(name, arguments.data_dir, *model.pictures)
    if list(dataset.classes) != model.classes[: len(dataset.classes)]:
        print(
            f"lenet evaluate: {model.path.name} answers {model.classes[0]}, {model.classes[1]} "
            f"..., but {name} has {dataset.classes[0]}, {dataset.classes[1]} ...; they are "
            "compared by number",
            file=sys.stderr,
        )
    split, score = dataset.test, scorer(model, arguments.threads, arguments.engine)
    scores = score(split.images)
    report = metrics.report(scores, split.labels, model.classes, model.temperature)
    errors = evaluate.robustness(score, split) if arguments.corruptions else {}
    written: list[Path] = []
    if arguments.out:
        from lenet.figures import files

        written.append(evaluate.write_report(arguments.out, report))
        written += files.draw_evaluation(arguments.out, report, scores, split)
        if errors:
            written.append(files.draw_corruptions(arguments.out, model.name, errors, split))
    if arguments.json:
        answer = {"model": str(model.path), "data": name, **report.as_dict()}
        print(json.dumps(answer | ({"corruptions": errors} if errors else {})))
        return 0
    print_report(report, f"{model.path} on the test set of {name}")
    print(
        table(
            "per class",
            ["class", "precision", "recall", "F1", "images"],
            [
                [c.name, f"{c.precision:.4f}", f"{c.recall:.4f}", f"{c.f1:.4f}", str(c.support)]
                for c in report.per_class
            ],
        )
    )
    print(
        table(
            "confusions: a row is what the image is, a column what the answer was",
            ["", *map(str, range(len(report.classes)))],
            [
                [name if name == str(i) else f"{i} {name}", *map(str, row)]
                for i, (name, row) in enumerate(zip(report.classes, report.confusion, strict=True))
            ],
        )
    )
    if errors:
        rows = [[name.replace("_", " "), f"{error:.2%}"] for name, error in errors.items()]
        rows.append(["mean", f"{sum(errors.values()) / len(errors):.2%}"])
        print(table("error under corruptions", ["", ""], rows, totals=True))
    for file in written:
        print(f"wrote {file}")
    return 0
