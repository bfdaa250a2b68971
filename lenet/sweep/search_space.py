"""Search spaces: the recipe fields that a sweep varies, and the values each may take."""

import itertools
import math
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lenet.errors import LenetError
from lenet.fields import annotations, require_known, typed
from lenet.networks.architecture import NETWORKS
from lenet.training.recipe import PARTS, Recipe

FIXED = ("name", "data", "validation")  # errors are compared on one part of one data set
COMBINATIONS = 4096  # of dimension values, at most, that are checked before a sweep
KINDS: dict[str, Any] = {
    field: kind
    for part in (Recipe, *NETWORKS.values(), *PARTS.values())
    for field, kind in annotations(part).items()
    if field not in PARTS
}


@dataclass(frozen=True)
class Dimension:
    """A field of a recipe and its values: either `choices`, or all from `low` to `high`.

    Attributes:
        spelling: as it was given, FIELD=VALUES.
        choices: as they were spelled; empty if the dimension has a range.
        log: values are spread evenly over the logarithm.
        whole: values are whole numbers.
    """

    spelling: str
    field: str
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False

    def value(self, drawn: Any) -> Any:
        """The recipe's value for what was drawn: a number, or one of `choices`."""
        return parsed(self.field, drawn) if self.choices else drawn

    @property
    def ends(self) -> tuple[Any, ...]:
        """All choices, or the lowest and the highest number."""
        return self.choices or tuple(int(x) if self.whole else x for x in (self.low, self.high))


def search_space(spellings: Sequence[str], base: Recipe) -> tuple[Dimension, ...]:
    """The dimensions that `--vary` spells.

    Raises:
        LenetError: there are none, a spelling cannot be read, or a value fits no recipe.
    """
    if not spellings:
        raise LenetError("nothing to vary: give at least one --vary lr=1e-4..1e-2:log")
    space = tuple(map(dimension, spellings))
    fields = [each.field for each in space]
    for field in fields:
        if fields.count(field) > 1:
            raise LenetError(f"--vary {field} is given twice: give it once, with all values")
    check(space, base)
    return space


def dimension(spelling: str) -> Dimension:
    field, _, values = (part.strip() for part in spelling.partition("="))
    field = field.replace("-", "_")
    require_known([field], KINDS, f"--vary {spelling}: a recipe")
    if field in FIXED:
        raise LenetError(
            f"--vary {spelling}: a sweep compares trials on one part of one data set; {field} "
            "cannot be varied"
        )
    try:
        if ".." in values:
            return ranged(spelling, field, values)
        return Dimension(spelling, field, choices(field, values))
    except LenetError as error:
        raise LenetError(f"--vary {spelling}: {error}; {example(field)}") from None


def choices(field: str, values: str) -> tuple[str, ...]:
    """The values of FIELD=A,B,C."""
    if not values:
        raise LenetError("there are no values")
    separate = tuple(choice.strip() for choice in values.split(","))
    for choice in separate:
        parsed(field, choice)
    if len(set(separate)) < len(separate):
        raise LenetError("a value is given twice")
    if len(separate) == 1:
        raise LenetError("one value is no choice")
    return separate


def ranged(spelling: str, field: str, values: str) -> Dimension:
    """The dimension of FIELD=LOW..HIGH or FIELD=LOW..HIGH:log."""
    kind = KINDS[field]
    if kind not in (int, float):
        raise LenetError(f"{field} has no range, only a list of values")
    limits, colon, scale = values.partition(":")
    if colon and scale != "log":
        raise LenetError(f"{scale!r} is unknown, only :log may follow a range")
    try:
        low, high = (kind(limit) for limit in limits.split(".."))
    except ValueError:
        numbers = "whole numbers" if kind is int else "numbers"
        raise LenetError(f"a range is LOW..HIGH, two {numbers}") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise LenetError(f"{low} is not below {high}")
    if scale == "log" and low <= 0:
        raise LenetError(f"a logarithmic range begins above 0, not at {low}")
    return Dimension(spelling, field, (), low, high, scale == "log", kind is int)


def check(space: Sequence[Dimension], base: Recipe) -> None:
    """Every choice and every end of a range must be possible with some values of the others.

    Raises:
        LenetError: it is possible with none of those that were checked.
    """
    left: dict[tuple[str, Any], str] = {(d.field, end): "" for d in space for end in d.ends}
    combinations = itertools.product(*(each.ends for each in space))
    for drawn in itertools.islice(combinations, COMBINATIONS):
        ends = [(each.field, end) for each, end in zip(space, drawn, strict=True)]
        try:
            recipe_at(base, space, drawn)
        except LenetError as error:
            left |= {end: str(error) for end in ends if end in left}
        else:
            for end in ends:
                left.pop(end, None)
    for (field, end), reason in left.items():
        if reason:
            raise LenetError(f"--vary {field}: {end} is not possible: {reason}")


def recipe_at(base: Recipe, space: Sequence[Dimension], drawn: Sequence[Any]) -> Recipe:
    """The recipe with what was drawn for each dimension.

    Raises:
        LenetError: there is no such recipe.
    """
    values = {each.field: each.value(value) for each, value in zip(space, drawn, strict=True)}
    return base.changed(**values)


def example(field: str) -> str:
    """A spelling that is valid for this field."""
    kind = KINDS[field]
    if typing.get_origin(kind) is Literal:
        values = ",".join(typing.get_args(kind)[:2])
    elif typing.get_origin(kind) is tuple:
        values = "6+16,12+32"
    else:
        values = {float: "1e-4..1e-2:log", int: "5..30", bool: "true,false"}.get(kind, "a,b")
    return f"for example --vary {field}={values}"


def parsed(field: str, text: str) -> Any:
    """The value of a recipe field that a text spells.

    Raises:
        LenetError: the text spells no value of this field.
    """
    kind = KINDS[field]
    try:
        value: Any = text
        if typing.get_origin(kind) is tuple:
            number = typing.get_args(kind)[0]
            value = () if text == "none" else tuple(number(part) for part in text.split("+"))
        elif kind in (int, float):
            value = kind(text)
        elif kind is bool:
            value = {"true": True, "false": False}[text.lower()]
    except (ValueError, KeyError):
        raise LenetError(f"{field} cannot be {text!r}") from None
    return typed(kind, value, field)


def spelled(value: Any) -> str:
    """The text that `parsed` reads as this value."""
    if isinstance(value, tuple):
        return "+".join(map(spelled, value)) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
