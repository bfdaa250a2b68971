"""The command `lenet`: flags in, calls of the package, tables or JSON out. No logic here."""

import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import tyro
from tyro.conf import OmitArgPrefixes, Positional

from lenet import __version__
from lenet.errors import LenetError
from lenet.recipes import RECIPES, Recipe, find

if TYPE_CHECKING:
    from lenet.metrics import Report

HELP = f"""\
lenet {__version__} - LeNet: train it, look inside it, read digits with it.

usage: lenet COMMAND [arguments]     `lenet COMMAND --help` explains one of them

  train [RECIPE]      train a network: {", ".join(RECIPES)}
  evaluate MODEL      measure a trained network on a test set
  predict IMAGE...    read pictures: files, folders, or - for standard input
  summary MODEL       what every layer is and costs
  data [NAME]         get a data set and show what is in it
  bench train         training speed beside PyTorch's, in one run

MODEL is a run folder, a weights file, a network that comes with the package, or latest.
First steps: `lenet train`, then `lenet evaluate latest`, then `lenet predict photo.jpg`.
"""

REJECTED_SHARES = (0.01, 0.02, 0.05, 0.1)  # points of the rejection curve in a printed report

Flags = TypeVar("Flags")


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0, 1 if some pictures failed, 2 for an error."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # file names may hold what it cannot encode
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            return run(sys.argv[1:] if arguments is None else arguments)
        finally:
            print(end="", flush=True)  # here, where what goes wrong can still be answered
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        leave_output()
        if isinstance(error, BrokenPipeError):  # the reader, `head` for one, has seen enough
            return 0
        print(f"lenet: {error}", file=sys.stderr)
        return 2


def leave_output() -> None:
    """If standard output fails, sends the rest of it nowhere: the process then ends quietly."""
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version"):
        print(f"lenet {__version__}")
        return 0
    command, *flags = arguments
    if command not in COMMANDS:
        print(f"lenet: no command {command!r}\n\n{HELP}", end="", file=sys.stderr)
        return 2
    try:
        return COMMANDS[command](flags)
    except LenetError as error:
        print(f"lenet {command}: {error}", file=sys.stderr)
        return 2


def parse(kind: type[Flags], usage: str, flags: list[str], default: Flags | None = None) -> Flags:
    return tyro.cli(
        kind,
        prog=f"lenet {usage}",
        args=flags,
        default=tyro.MISSING_NONPROP if default is None else default,
        config=(tyro.conf.FlagCreatePairsOff,),
    )


# train


@dataclass(frozen=True)
class TrainFlags:
    """Trains a network and writes a run folder: weights, metrics, curves, evaluation.

    RECIPE comes first: a name (default: mnist) or a .json file. Every field of a recipe is a
    flag. Examples: `lenet train d2l`, `lenet train mnist --epochs 3 --activation tanh`,
    `lenet train --resume runs/mnist-20260101-120000`.
    """

    recipe: OmitArgPrefixes[Recipe]
    out: Path | None = None
    """The run folder; runs/NAME-TIME by default."""
    resume: Path | None = None
    """Go on with this run folder where it stopped; takes no other flags."""
    device: str = "auto"
    """auto, cpu, cuda, mps ..."""
    engine: Literal["auto", "fused", "autograd"] = "auto"
    """What executes the steps: our fused CPU kernels, or PyTorch's autograd."""
    threads: int | None = None
    """CPU threads; as many as this process may use by default."""
    data_dir: str | None = None
    """Folder of the public data sets; $LENET_DATA or the cache folder by default."""
    tensorboard: bool = False
    """Also write TensorBoard logs into the run folder."""
    json: bool = False
    """Print the result as one JSON object."""


def train(flags: list[str]) -> int:
    recipe, named = RECIPES["mnist"], False
    if flags and not flags[0].startswith("-"):
        name, *flags = flags
        recipe, named = find(name), True
    asked = parse(TrainFlags, "train [RECIPE]", flags, TrainFlags(recipe))
    alone = TrainFlags(recipe, resume=asked.resume, json=asked.json)
    if asked.resume and (named or asked != alone):
        raise LenetError(
            "--resume goes on with the run as it was begun: give no recipe and no flags but --json"
        )

    from lenet import training

    if asked.resume:
        run = training.resume(asked.resume)
    else:
        run = training.train(
            asked.recipe,
            out=asked.out,
            device=asked.device,
            engine=asked.engine,
            threads=asked.threads,
            data_dir=asked.data_dir,
            tensorboard=asked.tensorboard,
        )
    if asked.json:
        summary = {"accuracy": run.report.accuracy, "error": run.report.error}
        rate = run.examples_per_second
        print(json.dumps({"run": str(run.path), **summary, "examples_per_second": rate}))
        return 0
    print(run.words)
    print(f"{run.examples_per_second:.1f} examples/sec on {run.device}")
    part = "validation" if run.recipe.validation else "test"
    print_report(run.report, f"{run.recipe.name} on the {part} set of {run.recipe.data}")
    print(f"All of it is in {run.path}: curves.png, confusion.png, rejection.png, mistakes.png ...")
    return 0


# evaluate


@dataclass(frozen=True)
class EvaluateFlags:
    """Measures a trained network: error, loss, per class, confusions, rejection, worst mistakes."""

    model: Positional[Annotated[str, tyro.conf.arg(metavar="MODEL")]]
    """A run folder, a weights file, a pretrained name, or latest (the newest run)."""
    data: str | None = None
    """A data set or folder; by default what the network was trained on."""
    out: Path | None = None
    """Write report.json and the figures into this folder."""
    engine: Literal["auto", "fused", "autograd"] = "auto"
    """What computes the scores: our fused CPU kernels, or PyTorch."""
    threads: int | None = None
    """CPU threads; as many as this process may use by default."""
    data_dir: str | None = None
    """Folder of the public data sets; $LENET_DATA or the cache folder by default."""
    json: bool = False
    """Print the report as one JSON object."""


def evaluate(flags: list[str]) -> int:
    asked = parse(EvaluateFlags, "evaluate", flags)

    from lenet import checkpoint, data, evaluation, metrics

    found = checkpoint.read(asked.model)
    name = asked.data or (found.card.get("data") or {}).get("name", "mnist")
    split = data.load(name, asked.data_dir).test
    scores = evaluation.scorer(found, asked.engine, asked.threads)(split.images)
    report = metrics.report(scores, split.labels, evaluation.class_names(found, scores.shape[1]))
    written = evaluation.write(asked.out, report, scores, split) if asked.out else []
    if asked.json:
        print(json.dumps({"model": str(found.path), "data": name, **report.as_dict()}))
        return 0
    print_report(report, f"{found.path} on the test set of {name}")
    print_rows(
        "per class",
        ["class", "precision", "recall", "F1", "images"],
        [
            [c.name, f"{c.precision:.4f}", f"{c.recall:.4f}", f"{c.f1:.4f}", str(c.support)]
            for c in report.per_class
        ],
    )
    print_rows(
        "confusions: a row is what the image is, a column what the answer was",
        ["", *map(str, range(len(report.classes)))],
        [
            [name if name == str(i) else f"{i} {name}", *map(str, row)]
            for i, (name, row) in enumerate(zip(report.classes, report.confusion, strict=True))
        ],
    )
    for file in written:
        print(f"wrote {file}")
    return 0


def print_report(report: "Report", title: str) -> None:
    rows = [
        ["images", f"{report.count:,}"],
        ["accuracy", f"{report.accuracy:.2%}"],
        ["error", f"{report.error:.2%}"],
        ["mean loss", f"{report.loss:.4f}"],
    ]
    for point in report.rejections:
        share = "not reached" if point.rejected is None else f"{point.rejected:.2%}"
        rows.append([f"to reject for {point.target:.1%} error on the rest", share])
    for share in REJECTED_SHARES:
        rows.append(
            [f"error of the rest when {share:.0%} are rejected", f"{report.curve.at(share):.2%}"]
        )
    print_rows(title, ["", ""], rows)


def print_rows(title: str, columns: list[str], rows: list[list[str]], totals: bool = False) -> None:
    """Prints a table whose columns after the first are aligned to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    headed = any(columns)
    drawn = Table(box=SIMPLE_HEAD, show_header=headed)
    for number, column in enumerate(columns):
        drawn.add_column(column, justify="right" if number else "left", no_wrap=True)
    for number, row in enumerate(rows):
        drawn.add_row(*row, end_section=totals and number == len(rows) - 2)
    console = Console()
    if not console.is_terminal:  # a file or a pipe has no width to fit
        console = Console(width=max(console.width, 200))
    print(title)
    with console.capture() as text:  # rich's own printing would exit on a closed pipe
        console.print(drawn)
    print(text.get(), end="")


# predict


@dataclass(frozen=True)
class PredictFlags:
    """Reads pictures: PNG, JPEG, GIF, WebP, TIFF, BMP; photographs, scans, drawings.

    Exit status 1 says that at least one picture could not be read.
    """

    images: Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="IMAGE...")]]
    """Files, folders of pictures, or - for standard input."""
    model: str = "latest"
    """A run folder, a weights file, a pretrained name, or latest (the newest run)."""
    show: Path | None = None
    """Draw what the preprocessor did: a .png or .svg for one picture, a folder for several,
    where their names begin with their numbers."""
    json: bool = False
    """Print one JSON object a line: path, label, probabilities, rejected; or path and error."""


def predict(flags: list[str]) -> int:
    asked = parse(PredictFlags, "predict", flags)
    if not asked.images:
        raise LenetError("name at least one picture, or - for standard input")

    from lenet.prediction import Predictor

    sources = list(pictures(asked.images))
    one_file = asked.show is not None and asked.show.suffix.lower() in (".png", ".svg")
    if one_file and len(sources) > 1:
        raise LenetError(
            f"--show {asked.show} is one file for {len(sources)} pictures: name a folder"
        )
    predictor = Predictor(asked.model)
    failed = 0
    for number, path in enumerate(sources, 1):
        try:
            answer = predictor.predict(sys.stdin.buffer if path == "-" else path)
        except LenetError as error:
            failed += 1
            report_failure(path, str(error), asked.json)
            continue
        if asked.show:
            name = "stdin" if path == "-" else Path(path).stem
            file = asked.show if one_file else asked.show / f"{number}-{name}.png"
            draw_steps(answer, path, file)
        if answer.label is None:
            failed += 1
            report_failure(path, answer.reason or "no digit found", asked.json)
        elif asked.json:
            print(json.dumps({"path": path, **answer.as_dict()}))
        else:
            ranked = sorted(answer.probabilities.items(), key=lambda item: -item[1])
            shares = "  ".join(f"{name} {p:.1%}" for name, p in ranked)
            trust = f"not sure: {answer.reason}" if answer.rejected else "sure"
            print(f"{path}: {answer.label}  ({trust})  {shares}")
    return 1 if failed else 0


def pictures(names: tuple[str, ...]) -> Iterator[str]:
    """The files themselves, and the pictures in folders."""
    from lenet.data import PICTURES, visible

    for name in names:
        inside = visible(Path(name)) if name != "-" and Path(name).is_dir() else []
        # A folder without pictures fails as a picture does, and the others are still read.
        yield from sorted(str(f) for f in inside if f.suffix.lower() in PICTURES) or [name]


def report_failure(path: str, reason: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"path": path, "error": reason}))
    else:
        named = reason if path != "-" and path in reason else f"{path}: {reason}"
        print(named, file=sys.stderr)


def draw_steps(answer: Any, title: str, file: Path) -> None:
    from lenet import plots

    words = answer.label if answer.reason is None else answer.reason
    figure = plots.preprocessing_steps(answer.steps, f"{title}: {words}", answer.probabilities)
    plots.save(figure, file)


# summary


@dataclass(frozen=True)
class SummaryFlags:
    """Shows what every layer of a network is and costs, for one image."""

    model: Positional[Annotated[str, tyro.conf.arg(metavar="MODEL")]]
    """LeNet, LeNet5 or LeNet5s; a recipe; or a run folder, weights file or pretrained name."""
    json: bool = False
    """Print one JSON object."""


def summary(flags: list[str]) -> int:
    asked = parse(SummaryFlags, "summary", flags)

    from lenet import checkpoint, inspection, models

    if asked.model in models.NETWORKS:
        model = models.NETWORKS[asked.model]()
    elif asked.model in RECIPES and asked.model not in checkpoint.pretrained_names():
        recipe = RECIPES[asked.model]
        model = models.build(recipe.model, recipe.network_options(classes=10))
    else:
        model = checkpoint.load(asked.model)
    found = inspection.summary(model)
    if asked.json:
        print(json.dumps(found.as_dict()))
        return 0
    rows = [
        [
            row.name,
            row.kind,
            "x".join(map(str, row.output_shape)),
            f"{row.parameters:,}",
            f"{row.connections:,}",
            f"{row.multiply_adds:,}",
            f"{row.receptive_field}x{row.receptive_field}",
        ]
        for row in found
    ]
    numbers = (found.parameters, found.connections, found.multiply_adds)
    rows.append(["total", "", "", *(f"{number:,}" for number in numbers), ""])
    side = "x".join(map(str, found.input_shape))
    print_rows(
        f"{found.network}, input {side}",
        ["layer", "kind", "output", "parameters", "connections", "multiply-adds", "sees"],
        rows,
        totals=True,
    )
    return 0


# data


@dataclass(frozen=True)
class DataFlags:
    """Gets a data set if it is not there yet, verifies it, and shows what is in it."""

    name: Positional[Annotated[str, tyro.conf.arg(metavar="NAME")]] = "mnist"
    """mnist, fashion-mnist, or a folder of your own (IDX files or one sub-folder per class)."""
    data_dir: str | None = None
    """Folder of the public data sets; $LENET_DATA or the cache folder by default."""
    sheet: Path | None = None
    """Draw a contact sheet, one row a class, into this .png or .svg."""
    json: bool = False
    """Print one JSON object."""


def show_data(flags: list[str]) -> int:
    asked = parse(DataFlags, "data", flags)

    from lenet import data

    found = data.load(asked.name, asked.data_dir)
    folder = (
        data.data_folder(asked.data_dir) / found.name
        if found.name in data.SOURCES
        else Path(found.name)
    )
    parts = {"train": found.train, "test": found.test}
    counts = {
        part: [int((split.labels == label).sum()) for label in range(len(found.classes))]
        for part, split in parts.items()
    }
    if asked.sheet:
        from lenet import plots

        figure = plots.contact_sheet(found.train.images, found.train.labels, found.classes)
        plots.save(figure, asked.sheet)
    if asked.json:
        shapes = {part: list(split.images.shape) for part, split in parts.items()}
        about = {"name": found.name, "folder": str(folder), "shapes": shapes}
        balance = {part: dict(zip(found.classes, c, strict=True)) for part, c in counts.items()}
        print(json.dumps({**about, "classes": balance, "sha256": found.checksums}))
        return 0
    print_rows(
        f"{found.name}, in {folder}",
        ["class", "train", "test"],
        [
            *(
                [name, f"{counts['train'][i]:,}", f"{counts['test'][i]:,}"]
                for i, name in enumerate(found.classes)
            ),
            ["total", *(f"{len(split):,}" for split in parts.values())],
        ],
        totals=True,
    )
    size = sum(split.images.nbytes for split in parts.values())
    height, width = found.train.images.shape[1:]
    print(f"images {height}x{width}, uint8, {size / 1e6:.1f} MB in all")
    for file, checksum in found.checksums.items():
        print(f"SHA-256 {checksum}  {file}")
    if asked.sheet:
        print(f"wrote {asked.sheet}")
    return 0


# bench


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


def bench(flags: list[str]) -> int:
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


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "summary": summary,
    "data": show_data,
    "bench": bench,
}
