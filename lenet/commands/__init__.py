"""The commands of `lenet`, a module each, and what they share: flags in, tables out.

Every module has a dataclass of its flags and `run(flags) -> exit status`; none has logic.
"""

import argparse
import dataclasses
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from lenet.tables import table

if TYPE_CHECKING:
    from lenet.evaluation.metrics import Report
    from lenet.networks.checkpoint import Checkpoint
    from lenet.training.recipe import Recipe

REJECTED_SHARES = (0.01, 0.02, 0.05, 0.1)  # points of the rejection curve in a printed report

Flags = TypeVar("Flags")


@dataclass(frozen=True)
class Machine:
    """What trains."""

    device: str = "auto"
    """auto, cpu, cuda, mps ..."""
    engine: Literal["auto", "fused", "graph", "autograd"] = "auto"
    """What executes the steps: our fused CPU kernels, PyTorch's autograd, or PyTorch's step as a
    CUDA graph, which was never measured."""
    threads: int | None = None
    """CPU threads; by default as many as this process may use, divided among torchrun's."""
    data_dir: str | None = None
    """Folder of the public data sets; by default $LENET_DATA or the cache folder."""


def parse(kind: type[Flags], usage: str, flags: list[str], default: Flags | None = None) -> Flags:
    """Parses flags into a dataclass; the fields of its parts are flags without a prefix."""
    if not flags and default is not None:
        return default
    import tyro  # takes as long as a quarter of an epoch of training

    return tyro.cli(
        kind,
        prog=f"lenet {usage}",
        args=flags,
        default=tyro.MISSING_NONPROP if default is None else default,
        config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes),
    )


def leading_recipe(flags: list[str], default: str) -> "tuple[Recipe, list[str]]":
    """The recipe that the flags begin with, or else the default one, and the other flags.

    `--model NAME` is handled here, as the other flags of a recipe depend on it. `--hidden none`,
    as a sweep spells it, becomes `--hidden` with no number.
    """
    from lenet.training.recipes import find

    name = default
    if flags and not flags[0].startswith("-"):
        name, *flags = flags
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--model", nargs="?", const="")
    known, flags = parser.parse_known_args(flags)
    recipe = find(name)
    if known.model is not None:
        recipe = recipe.changed(model=known.model)
    several = {name for name, value in recipe.as_dict().items() if isinstance(value, list)}
    pairs = [(before[2:].replace("-", "_"), flag) for before, flag in pairwise(["", *flags])]
    return recipe, [flag for field, flag in pairs if flag != "none" or field not in several]


def parse_model(kind: type[Any], usage: str, flags: list[str]) -> "tuple[Any, Checkpoint]":
    """Parses flags that begin with a model, and reads the network.

    The name of a network or of a recipe means an untrained one, whose options are flags too;
    trained networks take precedence over recipes of the same name.
    """
    from lenet.networks import checkpoint
    from lenet.networks.architecture import NETWORKS
    from lenet.training.recipes import RECIPES

    name = flags[0] if flags else ""
    if name in NETWORKS:
        options = NETWORKS[name]()
    elif name in RECIPES and name not in checkpoint.pretrained_names():
        options = RECIPES[name].network
    else:
        arguments = parse(kind, usage, flags)
        return arguments, checkpoint.read(arguments.model)
    field = dataclasses.field(default=options)
    fields = [("options", type(options), field)]
    about: dict[str, Any] = {"__doc__": kind.__doc__}
    extended = dataclasses.make_dataclass(
        kind.__name__, fields, bases=(kind,), frozen=True, namespace=about
    )
    arguments = parse(extended, usage, flags)
    architecture = arguments.options.architecture()
    card = {"classes": [str(label) for label in range(architecture.classes)]}
    weights = architecture.initial_weights(seed=0)
    return arguments, checkpoint.Checkpoint(Path(name), architecture, card, weights)


def print_report(report: "Report", title: str) -> None:
    rows = [
        ["images", f"{report.count:,}"],
        ["accuracy", f"{report.accuracy:.2%}"],
        ["error", f"{report.error:.2%}"],
        ["mean cross-entropy", f"{report.loss:.4f}"],
        ["expected calibration error", f"{report.reliability.ece:.2%}"],
    ]
    for point in report.rejections:
        share = "not reached" if point.rejected is None else f"{point.rejected:.2%}"
        rows.append([f"to reject for {point.target:.1%} error on the rest", share])
    for share in REJECTED_SHARES:
        rows.append(
            [f"error of the rest when {share:.0%} are rejected", f"{report.curve.at(share):.2%}"]
        )
    print(table(title, ["", ""], rows))
