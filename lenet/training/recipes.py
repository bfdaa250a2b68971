"""Recipes: everything that fixes a training run.

A `Recipe` is at once the flags of `lenet train`, the argument of `lenet.train` and the JSON in a
run folder.
"""

import dataclasses
import json
import math
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lenet.errors import LenetError


@dataclass(frozen=True)
class Recipe:
    """One training run, up to the machine it runs on."""

    name: str = "custom"
    """Name of the recipe; the run folder is named after it."""

    data: str = "mnist"
    """mnist, fashion-mnist, or a folder of your own (IDX files or one sub-folder per class)."""
    validation: int = 0
    """Hold out so many of the last training images and measure on them, not on the test set."""

    model: Literal["LeNet", "LeNet5", "LeNet5s"] = "LeNet"
    """LeNet of today, LeNet5 of 1998, or LeNet5s."""
    input_size: int = 28
    """LeNet: side of the network's input in pixels; smaller images are padded with 0."""
    channels: tuple[int, ...] = (6, 16)
    """LeNet: output channels of the convolution layers, one number a layer."""
    kernel_sizes: tuple[int, ...] = (5,)
    """LeNet: side of the kernels, one number a layer; the last is repeated."""
    padding: tuple[int, ...] = (2,)
    """LeNet: zeros around the input of each convolution; 0 for further layers."""
    hidden: tuple[int, ...] = (120, 84)
    """LeNet: sizes of the fully connected layers before the output."""
    activation: Literal["sigmoid", "tanh", "scaled-tanh", "relu", "gelu", "silu"] = "sigmoid"
    """LeNet: what follows every layer but the last; gelu is x * sigmoid(1.702 x)."""
    pooling: Literal["average", "max"] = "average"
    """LeNet: 2x2 pooling after every convolution."""
    init: Literal["xavier-uniform", "torch", "kaiming-uniform", "lecun-uniform"] = "xavier-uniform"
    """LeNet: start of the weights."""
    normalise: tuple[float, float] = (0.0, 1.0)
    """LeNet: mean and standard deviation that pixels in 0..1 are normalised with."""

    subsampling: Literal["average", "sum"] = "average"
    """LeNet5: what S2 and S4 take of 2x2 inputs."""
    initial: Literal["linear", "sqrt"] = "sqrt"
    """LeNet5: bound of the initial weights, 2.4 / F or 2.4 / sqrt(F)."""
    fan_in: Literal["inputs", "inputs+bias"] = "inputs"
    """LeNet5: whether the fan-in F counts the bias."""
    subsampling_start: Literal["average", "random"] = "average"
    """LeNet5: start of S2 and S4, as a mean or random."""
    head: Literal["rbf", "softmax"] = "rbf"
    """LeNet5: distances to the glyphs, or a trainable linear layer."""

    epochs: int = 10
    """Times that the training set is gone through."""
    batch_size: int = 256
    """Images in a step."""
    loss: Literal["cross-entropy", "mse", "penalty", "map"] = "cross-entropy"
    """Cross-entropy, squared error to one-hot targets, or criterion (8) or (9) of 1998."""
    j: float = 10.0
    """Constant of the loss map: the penalty of the rubbish class."""
    label_smoothing: float = 0.0
    """Share of each target that is spread evenly over all classes (cross-entropy only)."""
    optimizer: Literal["sgd", "adamw", "sdlm"] = "sgd"
    """Stochastic gradient descent, AdamW, or the 1998 paper's diagonal Levenberg-Marquardt."""
    lr: float = 0.9
    """Learning rate at its height."""
    momentum: float = 0.0
    """Momentum of sgd."""
    weight_decay: float = 0.0
    """Weight decay."""
    mu: float = 0.02
    """Sdlm: keeps steps finite where the error is flat."""
    curvature: Literal["fixed", "exact"] = "fixed"
    """Sdlm with the loss map: second derivative at F6, 2 as for the loss penalty, or exact."""
    schedule: Literal["constant", "cosine", "1998"] = "constant"
    """Keep the learning rate, lower it to 0 along a cosine, or in the 1998 paper's five stages."""
    warmup: float = 0.0
    """Share of all steps in which the learning rate rises from 0."""

    print_every: int = 0
    """Print the mean loss of every so many steps; 0 prints epochs alone."""

    shift: float = 0.0
    """Distortion: shift by up to so many pixels each way. All ranges are uniform."""
    rotation: float = 0.0
    """Distortion: rotate by up to so many degrees each way."""
    scale: float = 0.0
    """Distortion: enlarge or shrink by up to this share (as a factor, e^-scale to e^scale)."""
    squeeze: float = 0.0
    """Distortion: widen by up to this share and flatten as much, or the other way round."""
    shear: float = 0.0
    """Distortion: shear horizontally by up to this slope."""
    flip: bool = False
    """Distortion: mirror an image left to right, one time in two."""
    elastic: float = 0.0
    """Distortion: bend smoothly; the standard deviation of each pixel's shift along each axis."""
    paper: float = 0.0
    """Distortion: one time in four, make paper darker, by up to this share of full ink."""
    fade: float = 0.0
    """Distortion: at the same times, take up to this share of the contrast away."""
    noise: float = 0.0
    """Distortion: at the same times, make up to this share of the pixels paper or full ink."""
    copies: int = 0
    """Distort the training set in so many ways, used in turn; 0 for new ways in every epoch."""

    teachers: tuple[str, ...] = ()
    """Run folders, weights files or names of networks; their mean scores are learned from."""
    distillation: float = 0.0
    """Share of the loss that comes from the teachers; the rest comes from the labels."""
    temperature: float = 1.0
    """What the teachers' and the network's scores are divided by in their part of the loss."""
    averaging: float = 0.0
    """Measure and keep not the weights but their average over steps, each step's share of it
    falling by this factor with every further one, like 0.999; 0 for no averaging."""

    seed: int = 0
    """Fixes initial weights, order of images and distortions."""

    def __post_init__(self) -> None:
        rules = {
            "name": "/" not in self.name and "\0" not in self.name,
            "epochs": 1 <= self.epochs <= 1_000_000,
            "print_every": self.print_every >= 0,
            "batch_size": self.batch_size >= 1,
            "validation": self.validation >= 0,
            "seed": 0 <= self.seed < 2**32,
            "lr": self.lr > 0,
            "momentum": 0 <= self.momentum < 1,
            "weight_decay": self.weight_decay >= 0,
            "warmup": 0 <= self.warmup < 1,
            "label_smoothing": 0 <= self.label_smoothing < 1,
            "shift": self.shift >= 0,
            "rotation": self.rotation >= 0,
            "scale": 0 <= self.scale < 1,
            "squeeze": 0 <= self.squeeze < 1,
            "shear": self.shear >= 0,
            "teachers": "latest" not in self.teachers,  # another one when the run is resumed
            "elastic": self.elastic >= 0,
            "paper": 0 <= self.paper < 1,
            "fade": 0 <= self.fade < 1,
            "noise": 0 <= self.noise <= 1,
            "copies": self.copies >= 0,
            "distillation": 0 <= self.distillation <= 1,
            "temperature": self.temperature > 0,
            "averaging": 0 <= self.averaging < 1,
            "mu": self.mu > 0,
            "j": self.j > 0,
        }
        for name, value in vars(self).items():
            numbers = value if isinstance(value, tuple) else (value,)
            if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
                rules[name] = False
        for name, holds in rules.items():
            if not holds:
                raise LenetError(f"{name} cannot be {getattr(self, name)}")
        for model, fields in NETWORK_FIELDS.items():
            for field in fields if model != self.model else ():
                if getattr(self, field) != DEFAULTS[field]:
                    raise LenetError(f"{field} is a knob of {model}; {self.model} has none such")
        if self.label_smoothing and self.loss != "cross-entropy":
            raise LenetError("label_smoothing goes with the loss cross-entropy")
        if bool(self.teachers) != bool(self.distillation):
            raise LenetError("teachers and distillation go together")
        if self.temperature != DEFAULTS["temperature"] and not self.teachers:
            raise LenetError("temperature goes with teachers")
        if self.teachers and self.loss != "cross-entropy":
            raise LenetError("teachers go with the loss cross-entropy")
        if self.momentum and self.optimizer != "sgd":
            raise LenetError("momentum goes with the optimizer sgd")
        if (self.optimizer == "sdlm") != (self.batch_size == 1 and self.model == "LeNet5"):
            raise LenetError("the optimizer sdlm goes with the model LeNet5 and batch_size 1")
        if self.optimizer != "sdlm" and (self.mu, self.curvature) != (
            DEFAULTS["mu"],
            DEFAULTS["curvature"],
        ):
            raise LenetError("mu and curvature go with the optimizer sdlm")
        if self.loss != "map" and self.j != DEFAULTS["j"]:
            raise LenetError("j goes with the loss map")
        if self.optimizer == "sdlm":
            ignored = (
                *("warmup", "weight_decay", "label_smoothing", "print_every"),
                *("copies", "teachers", "averaging"),
            )
            for field in ignored:
                if getattr(self, field):
                    raise LenetError(f"the optimizer sdlm has no {field}")
            losses = ("cross-entropy",) if self.head == "softmax" else ("penalty", "map")
            if self.loss not in losses:
                raise LenetError(
                    f"with the optimizer sdlm, the head {self.head} has the loss "
                    f"{' or '.join(losses)}, not {self.loss}"
                )

    def network_options(self, classes: int) -> dict[str, Any]:
        """The arguments of the network's constructor."""
        options = {name: getattr(self, name) for name in NETWORK_FIELDS[self.model]}
        if self.model == "LeNet":
            mean, std = options.pop("normalise")
            return {**options, "classes": classes, "mean": mean, "std": std}
        if classes != 10:
            raise LenetError(f"{self.model} has 10 classes, the data have {classes}")
        return options

    def as_dict(self) -> dict[str, Any]:
        """JSON-able: field -> value."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }

    @staticmethod
    def from_dict(values: Any, source: str = "the recipe") -> "Recipe":
        """The recipe that `as_dict` wrote.

        Raises:
            LenetError: not a dict of a recipe's fields with values of their types.
        """
        if not isinstance(values, dict):
            raise LenetError(f"{source} is not a JSON object of recipe fields")
        hints = typing.get_type_hints(Recipe)
        known = {field.name for field in dataclasses.fields(Recipe)}
        if unknown := sorted(set(values) - known):
            raise LenetError(f"{source} has unknown fields: {', '.join(unknown)}")
        return Recipe(**{name: typed(hints[name], value, name) for name, value in values.items()})

    @staticmethod
    def from_file(file: Path) -> "Recipe":
        """Reads a recipe from a JSON file.

        Raises:
            LenetError: the file cannot be read or is no recipe.
        """
        try:
            return Recipe.from_dict(json.loads(file.read_text(encoding="utf-8")), str(file))
        except (OSError, ValueError, RecursionError) as error:
            if isinstance(error, LenetError):
                raise
            raise LenetError(f"{file} cannot be read as a recipe: {error}") from None


def typed(kind: Any, value: Any, name: str) -> Any:
    """`value`, as JSON gives it, if it is of the annotated type."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple and isinstance(value, list | tuple):
        expected = len(value) if arguments[-1] is Ellipsis else len(arguments)
        if len(value) == expected:
            return tuple(typed(arguments[0], item, name) for item in value)
    elif origin is Literal:
        if value in arguments:
            return value
        raise LenetError(f"{name} must be one of {', '.join(arguments)}, not {value!r:.100}")
    elif kind is float and type(value) in (int, float) and abs(value) < 1e300:
        return float(value)
    elif not isinstance(kind, types.GenericAlias) and type(value) is kind:
        return value
    raise LenetError(f"{name} cannot be {value!r:.100}")


NETWORK_FIELDS: dict[str, tuple[str, ...]] = {
    "LeNet": (
        "input_size",
        "channels",
        "kernel_sizes",
        "padding",
        "hidden",
        "activation",
        "pooling",
        "init",
        "normalise",
    ),
    "LeNet5": ("subsampling", "initial", "fan_in", "subsampling_start", "head"),
    "LeNet5s": (),
}
DEFAULTS = {field.name: field.default for field in dataclasses.fields(Recipe)}

LENET5_1998 = Recipe(
    name="lenet5-1998",
    model="LeNet5",
    epochs=20,
    batch_size=1,
    loss="map",
    optimizer="sdlm",
    lr=5e-4,
    mu=0.2,
    schedule="1998",
)
FASHION_MNIST_TEACHER = Recipe(
    name="fashion-mnist-teacher",
    data="fashion-mnist",
    activation="relu",
    pooling="max",
    init="torch",
    epochs=100,
    optimizer="adamw",
    lr=6e-3,
    weight_decay=0.02,
    schedule="cosine",
    warmup=0.1,
    shift=1.0,
    rotation=4.0,
    scale=0.05,
    shear=0.04,
    flip=True,
)
RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="mnist",
            activation="gelu",
            pooling="max",
            init="torch",
            epochs=30,
            optimizer="adamw",
            lr=5e-3,
            weight_decay=1e-4,
            schedule="cosine",
            warmup=0.1,
            shift=1.0,
            rotation=10.0,
            scale=0.1,
            shear=0.1,
        ),
        # "Dive into Deep Learning", section 7.6: printed test accuracies 0.779 and 0.795.
        Recipe(name="d2l", data="fashion-mnist"),
        # A ReLU network with shared C3 kernels, one-hot targets, momentum.
        Recipe(
            name="lenet5s",
            model="LeNet5s",
            batch_size=32,
            loss="mse",
            lr=0.01,
            momentum=0.9,
            print_every=100,
        ),
        # The best that 61,706 parameters can do; docs/best.md has the evidence.
        Recipe(
            name="mnist-best",
            activation="relu",
            pooling="average",
            init="torch",
            epochs=200,
            optimizer="adamw",
            lr=5e-3,
            weight_decay=0.1,
            schedule="cosine",
            warmup=0.1,
            shift=1.0,
            rotation=10.0,
            scale=0.1,
            shear=0.1,
            elastic=1.0,
            paper=0.4,
            fade=0.7,
            noise=0.3,
        ),
        FASHION_MNIST_TEACHER,
        dataclasses.replace(
            FASHION_MNIST_TEACHER,
            name="fashion-mnist-best",
            epochs=240,
            copies=30,
            teachers=tuple(f"runs/fashion-mnist-teacher-{seed}" for seed in range(4)),
            distillation=0.9,
            temperature=4.0,
        ),
        # The network of the 1998 paper and its optimizer; see docs/lenet5-1998.md.
        LENET5_1998,
        dataclasses.replace(
            LENET5_1998,
            name="lenet5-1998-distorted",
            lr=3e-4,
            schedule="cosine",
            shift=1.0,
            scale=0.1,
            squeeze=0.1,
            shear=0.15,
        ),
    )
}


def find(name: str) -> Recipe:
    """The recipe of that name, or in that .json file.

    Raises:
        LenetError: there is none, or the file holds no recipe.
    """
    if name in RECIPES:
        return RECIPES[name]
    if name.endswith(".json"):
        return Recipe.from_file(Path(name))
    raise LenetError(
        f"no recipe {name!r}: choose one of {', '.join(RECIPES)}, or name a .json file"
    )
