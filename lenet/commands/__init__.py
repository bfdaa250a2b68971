"""The commands of `lenet`, a module each, and what they share: flags in, tables out.

Every module has a dataclass of its flags and `run(flags) -> exit status`; none has logic.
"""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import tyro

if TYPE_CHECKING:
    from lenet.evaluation.metrics import Report
    from lenet.networks.architecture import Options
    from lenet.networks.checkpoint import Checkpoint
    from lenet.training.recipe import Recipe

REJECTED_SHARES = (0.01, 0.02, 0.05, 0.1)  # points of the rejection curve in a printed report

Flags = TypeVar("Flags")


def parse(kind: type[Flags], usage: str, flags: list[str], default: Flags | None = None) -> Flags:
    return tyro.cli(
        kind,
        prog=f"lenet {usage}",
        args=flags,
        default=tyro.MISSING_NONPROP if default is None else default,
        config=(tyro.conf.FlagCreatePairsOff,),
    )


def leading_recipe(flags: list[str], default: str) -> "tuple[Recipe, list[str]]":
    """The recipe that the flags begin with, or else the default one, and the other flags.

    `--model NAME` is looked at here: the other flags of a recipe depend on it.
    """
    from lenet.training.recipes import find

    name = default
    if flags and not flags[0].startswith("-"):
        name, *flags = flags
    recipe = find(name)
    for number, flag in enumerate(flags):
        word, _, value = flag.partition("=")
        if word == "--model":
            rest = flags[number + 1 :] if value else flags[number + 2 :]
            value = value or next(iter(flags[number + 1 :]), "")
            return recipe.changed(model=value), [*flags[:number], *rest]
    return recipe, flags


def parse_model(kind: type[Any], usage: str, flags: list[str]) -> "tuple[Any, Checkpoint]":
    """Flags whose first is a model, and the network.

    The name of a network or of a recipe stands for one that is not trained, whose options are
    flags too; trained networks go before recipes of the same name.
    """
    from lenet.networks import checkpoint

    options = untrained(flags[0]) if flags else None
    if options is None:
        arguments = parse(kind, usage, flags)
        return arguments, checkpoint.read(arguments.model)
    field = dataclasses.field(default=options)
    fields = [("options", tyro.conf.OmitArgPrefixes[type(options)], field)]
    about: dict[str, Any] = {"__doc__": kind.__doc__}
    extended = dataclasses.make_dataclass(
        kind.__name__, fields, bases=(kind,), frozen=True, namespace=about
    )
    arguments = parse(extended, usage, flags)
    architecture = arguments.options.architecture()
    card = {"classes": [str(label) for label in range(architecture.classes)]}
    weights = architecture.initial_weights(seed=0)
    return arguments, checkpoint.Checkpoint(Path(flags[0]), architecture, card, weights)


def untrained(name: str) -> "Options | None":
    """The options of the network or recipe of that name, if there is one."""
    from lenet.networks import checkpoint
    from lenet.networks.architecture import NETWORKS
    from lenet.training.recipes import RECIPES

    if name in NETWORKS:
        return NETWORKS[name]()
    if name in RECIPES and name not in checkpoint.pretrained_names():
        return RECIPES[name].network
    return None


def print_report(report: "Report", title: str) -> None:
    rows = [
        ["images", f"{report.count:,}"],
        ["accuracy", f"{report.accuracy:.2%}"],
        ["error", f"{report.error:.2%}"],
        ["mean loss", f"{report.loss:.4f}"],
        ["expected calibration error", f"{report.reliability.ece:.2%}"],
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
