"""Recipes: everything that fixes a training run, up to the machine it runs on.

A `Recipe` is at once the flags of `lenet train`, the argument of `lenet.train` and the JSON in a
run folder. It has parts, each of which checks itself; flags, keywords and JSON are flat.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

from lenet import fields, notebook
from lenet.data.distortion import Distortion
from lenet.data.folders import Pictures
from lenet.engine.objective import Objective
from lenet.errors import LenetError
from lenet.networks.architecture import NETWORKS, Architecture, LeNet, Options

LARGEST_RATE = 1e6


@dataclass(frozen=True, kw_only=True)
class Optimisation:
    """How the weights are changed."""

    epochs: int = 10
    """Passes over the training set."""
    batch_size: int = 256
    """Images in a step."""
    optimizer: Literal["sgd", "adamw", "sdlm"] = "sgd"
    """Stochastic gradient descent, AdamW, or the 1998 paper's diagonal Levenberg-Marquardt."""
    lr: float = 0.9
    """Highest learning rate."""
    momentum: float = 0.0
    """Momentum of sgd."""
    weight_decay: float = 0.0
    """Weight decay."""
    beta2: float = 0.999
    """Adamw: share of the mean square of the gradients that each step keeps."""
    mu: float = 0.02
    """Sdlm: keeps steps finite where the error is flat."""
    curvature: Literal["fixed", "exact"] = "fixed"
    """Sdlm with the loss map: second derivative at F6, 2 as for the loss penalty, or exact."""
    schedule: Literal["constant", "linear", "cosine", "1998"] = "constant"
    """Keep the learning rate constant, lower it to 0 along a line or a cosine, or follow the 1998
    paper's five stages."""
    warmup: float = 0.0
    """Share of all steps in which the learning rate rises from 0."""
    averaging: float = 0.0
    """Measure and keep a moving average of the weights instead, of which each step keeps this
    share, such as 0.999; 0 for no averaging."""

    def __post_init__(self) -> None:
        fields.check(self)
        fields.require(
            self,
            epochs=1 <= self.epochs <= 1_000_000,
            batch_size=1 <= self.batch_size <= 1_000_000,
            lr=0 < self.lr <= LARGEST_RATE,
            momentum=0 <= self.momentum < 1,
            weight_decay=0 <= self.weight_decay <= LARGEST_RATE,
            beta2=0 <= self.beta2 < 1,
            mu=0 < self.mu <= LARGEST_RATE,
            warmup=0 <= self.warmup < 1,
            averaging=0 <= self.averaging < 1,
        )
        owners = {"momentum": "sgd", "beta2": "adamw", "mu": "sdlm", "curvature": "sdlm"}
        for name, owner in owners.items():
            if self.optimizer != owner and getattr(self, name) != getattr(Optimisation, name):
                raise LenetError(f"{name} goes with the optimizer {owner}, not {self.optimizer}")


@dataclass(frozen=True, init=False, repr=False)
class Recipe:
    """One training run.

    Its arguments are its fields and those of its parts: `Recipe(activation="relu", lr=0.05)`.
    A part may also be given whole: `Recipe(network=LeNet5())`.

    Attributes:
        network: an entry of `lenet.networks.architecture.NETWORKS`.
        objective: what training minimises.
        optimisation: how the weights are changed.
        distortion: how images are distorted.

    Raises:
        LenetError: there is no such field, or values cannot be combined.
    """

    name: str = "custom"
    """Name of the recipe; the run folder is named after it."""
    data: str = "mnist"
    """mnist, fashion-mnist, digits, another name that `lenet data --help` lists, or your own folder
    (IDX files or one sub-folder per class)."""
    pictures: Pictures = "digit"
    """How pictures of a folder are read: find the digit in each, or take it whole, in grey (plain)
    or in colour (color), with a side of input_size pixels."""
    validation: int = 0
    """Hold out this many of the last training images; measure on them, not on the test set."""
    network: Options = LeNet()
    objective: Objective = Objective()
    optimisation: Optimisation = Optimisation()
    distortion: Distortion = Distortion()
    copies: int = 0
    """Distorted copies of the training set, used in turn; 0 for new distortions in every epoch."""
    print_every: int = 0
    """Print the mean loss after every so many steps; 0 prints only epochs."""
    seed: int = 0
    """Fixes initial weights, order of images and distortions."""

    def __init__(self, **values: Any) -> None:
        model = values.pop("model", type(values.get("network", self.network)).__name__)
        if not isinstance(model, str) or model not in NETWORKS:
            raise LenetError(f"there is no model {model!r:.100}: choose {', '.join(NETWORKS)}")
        kinds = {**PARTS, "network": NETWORKS[model]}
        names = {field for kind in kinds.values() for field in fields.annotations(kind)}
        for field in set(values) - names - set(OWN):
            for other, entry in NETWORKS.items():
                if field in fields.annotations(entry):
                    raise LenetError(f"{field} is an option of {other}, not of {model}")
        fields.require_known(values, {*names, *OWN}, "a recipe")
        for part, kind in kinds.items():
            of_part = {n: values[n] for n in fields.annotations(kind) if n in values}
            whole = values.get(part)
            if whole is None:
                whole = kind(**of_part)
            elif of_part:
                whole = kind(**{**vars(whole), **of_part})
            object.__setattr__(self, part, whole)
        for name in set(OWN) - set(PARTS):
            if name in values:
                object.__setattr__(self, name, values[name])
        self._check()

    def _check(self) -> None:
        """Checks what no part can check alone."""
        fields.check(self)
        fields.require(
            self,
            name="/" not in self.name and self.name.isprintable() and len(self.name) <= 100,
            validation=self.validation >= 0,
            copies=self.copies >= 0,
            print_every=self.print_every >= 0,
            seed=0 <= self.seed < 2**32,
        )
        for name in ("distillation", "temperature"):
            default = getattr(Objective, name)
            if not self.objective.teachers and getattr(self.objective, name) != default:
                raise LenetError(f"{name} goes with teachers")
        if self.optimisation.optimizer == "sdlm":
            self._check_sdlm()

    def _check_sdlm(self) -> None:
        if self.optimisation.batch_size != 1 or self.model != "LeNet5":
            raise LenetError("the optimizer sdlm goes with the model LeNet5 and batch_size 1")
        values = self.as_dict()
        for name in (
            *("warmup", "weight_decay", "label_smoothing", "print_every"),
            *("copies", "teachers", "averaging"),
        ):
            if values[name]:
                raise LenetError(f"the optimizer sdlm has no {name}")
        head = values["head"]
        losses = ("cross-entropy",) if head == "softmax" else ("penalty", "map")
        if self.objective.loss not in losses:
            raise LenetError(
                f"with the optimizer sdlm, the head {head} has the loss {' or '.join(losses)}, "
                f"not {self.objective.loss}"
            )

    @property
    def model(self) -> str:
        """Name of the network."""
        return type(self.network).__name__

    @property
    def side(self) -> int:
        """Of the pictures of a folder that are taken whole, in pixels."""
        return getattr(self.network, "input_size", 28)

    def architecture(self, in_channels: int = 1, classes: int = 10) -> Architecture:
        """The network for such data."""
        return self.network.architecture(in_channels, classes)

    def __repr__(self) -> str:
        usual = Recipe(model=self.model).as_dict()
        fields = {k: v for k, v in self.as_dict().items() if k == "model" or v != usual[k]}
        return f"Recipe({', '.join(f'{name}={value!r}' for name, value in fields.items())})"

    def _repr_html_(self) -> str:
        """A table of all fields, those with another value than usual in bold."""
        usual = Recipe(model=self.model).as_dict()
        rows = [
            f"<tr>{notebook.cells((name, value))}</tr>"
            if value == usual[name]
            else f"<tr style='font-weight:bold'>{notebook.cells((name, value))}</tr>"
            for name, value in self.as_dict().items()
        ]
        return f"<table>{''.join(rows)}</table>"

    def as_dict(self) -> dict[str, Any]:
        """Flat and JSON-able: field -> value."""
        values: dict[str, Any] = {}
        for name in OWN:
            value = getattr(self, name)
            if name == "network":
                values |= {"model": self.model, **asdict(value)}
            else:
                values |= asdict(value) if name in PARTS else {name: value}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    def changed(self, **changes: Any) -> Self:
        """The recipe with other values in some fields; another model starts from its defaults."""
        values = {name: getattr(self, name) for name in OWN}
        if changes.get("model", self.model) != self.model:
            del values["network"]
        return type(self)(**{**values, **changes})

    @staticmethod
    def from_dict(values: Any, source: str = "the recipe") -> "Recipe":
        """The recipe that `as_dict` wrote, now or in an earlier version.

        Raises:
            LenetError: not a dict of a recipe's fields with values of their types.
        """
        if not isinstance(values, dict):
            raise LenetError(f"{source} is not a JSON object of recipe fields")
        try:
            return Recipe(**renewed(values))
        except LenetError as error:
            raise LenetError(f"{source}: {error}") from None

    @staticmethod
    def from_file(file: Path) -> "Recipe":
        """Reads a recipe from a JSON file.

        Raises:
            LenetError: the file cannot be read or is no recipe.
        """
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise LenetError(f"{file} cannot be read as a recipe: {error}") from None
        return Recipe.from_dict(values, str(file))


OWN = tuple(fields.annotations(Recipe))  # the fields that are no part's
PARTS: dict[str, type[Any]] = {
    "network": Options,
    "objective": Objective,
    "optimisation": Optimisation,
    "distortion": Distortion,
}
EARLIER_DEFAULTS = {"initial": "sqrt"}  # defaults that have changed


def renewed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a recipe of version 0.1 as they would be written today.

    It wrote the options of all networks into every recipe, and normalise for mean and std.
    """
    values = dict(values)
    if "normalise" in values:
        pair = fields.typed(tuple[float, float], values.pop("normalise"), "normalise")
        values["mean"], values["std"] = pair
    own = fields.annotations(NETWORKS.get(str(values.get("model", "LeNet")), Options))
    for entry in NETWORKS.values():
        for name in (fields.annotations(entry).keys() & values.keys()) - own.keys():
            default = EARLIER_DEFAULTS.get(name, getattr(entry, name))
            given = values[name]
            if default == (tuple(given) if isinstance(given, list) else given):
                del values[name]
    return values
