"""Dimensions: the recipe fields that a sweep space, and the values each may take."""

import difflib
import itertools
import math
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lenet.errors import LenetError
from lenet.fields import annotations, typed
from lenet.networks.architecture import NETWORKS
from lenet.training.recipe import PARTS, Recipe

FIXED = ("name", "data", "validation")  # errors are compared on one part of one data set
COMBINATIONS = 4096  # of dimension values, at most, that are looked at before a sweep

SPELLINGS = """\
FIELD=VALUES, where VALUES is a range or a list:
  lr=1e-4..1e-2:log            numbers from 1e-4 to 1e-2, as many in each power of ten
  momentum=0..0.9              numbers, evenly;  epochs=5..30: whole numbers
  activation=relu,tanh,gelu    one of these;  flags: true,false
  channels=6+16,12+32          fields of several numbers: joined by +"""


@dataclass(frozen=True)
class Dimension:
    """A field of a recipe and its values: either `choices`, or all from `low` to `high`.

    Attributes:
        spelling: as it was given, FIELD=VALUES.
        choices: as they were spelled; none where the dimension has a range.
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
    found = tuple(dimension(spelling) for spelling in spellings)
    fields = [each.field for each in found]
    for field in fields:
        if fields.count(field) > 1:
            raise LenetError(f"--vary {field} is given twice: give it once, with all values")
    check(found, base)
    return found


def dimension(spelling: str) -> Dimension:
    field, equals, values = (part.strip() for part in spelling.partition("="))
    field = field.replace("-", "_")
    kind = KINDS.get(field)
    if kind is None or field in FIXED:
        near = difflib.get_close_matches(field, [name for name in KINDS if name not in FIXED], 1)
        advice = f"did you mean {near[0]}?" if near else "`lenet sweep --help` lists the fields"
        if kind is not None:
            advice = "a sweep compares trials on one part of one data set"
        raise LenetError(f"--vary {spelling}: {field!r} cannot be varied; {advice}")
    wrong = f"--vary {spelling}"
    if not equals or not values:
        raise LenetError(f"{wrong}: there are no values; {example(field)}")
    if ".." in values:
        return ranged(spelling, field, values)
    choices = tuple(choice.strip() for choice in values.split(","))
    for choice in choices:
        try:
            parsed(field, choice)
        except LenetError as error:
            raise LenetError(f"{wrong}: {error}; {example(field)}") from None
    if len(set(choices)) < len(choices):
        raise LenetError(f"{wrong}: a value is given twice")
    if len(choices) == 1:
        raise LenetError(f"{wrong}: one value is no choice; {example(field)}")
    return Dimension(spelling, field, choices)


def ranged(spelling: str, field: str, values: str) -> Dimension:
    """The dimension of FIELD=LOW..HIGH or FIELD=LOW..HIGH:log."""
    kind = KINDS[field]
    wrong = f"--vary {spelling}"
    if kind not in (int, float):
        raise LenetError(f"{wrong}: {field} has no range, only a list of values; {example(field)}")
    limits, colon, scale = values.partition(":")
    if colon and scale != "log":
        raise LenetError(
            f"{wrong}: {scale!r} is unknown, only :log may follow a range; {example(field)}"
        )
    try:
        low, high = (kind(limit) for limit in limits.split(".."))
    except ValueError:
        numbers = "whole numbers" if kind is int else "numbers"
        raise LenetError(
            f"{wrong}: a range is LOW..HIGH, two {numbers}; {example(field)}"
        ) from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise LenetError(f"{wrong}: {low} is not below {high}; {example(field)}")
    if scale == "log" and low <= 0:
        raise LenetError(
            f"{wrong}: a logarithmic range begins above 0, not at {low}; {example(field)}"
        )
    return Dimension(spelling, field, (), low, high, scale == "log", kind is int)


def check(found: Sequence[Dimension], base: Recipe) -> None:
    """Every choice and every end of a range must be possible with some values of the others.

    Raises:
        LenetError: with none of those that were looked at.
    """
    left: dict[tuple[str, Any], str] = {(k.field, end): "" for k in found for end in k.ends}
    combinations = itertools.product(*(each.ends for each in found))
    for drawn in itertools.islice(combinations, COMBINATIONS):
        try:
            recipe_at(base, found, drawn)
        except LenetError as error:
            for each, end in zip(found, drawn, strict=True):
                if (each.field, end) in left:
                    left[each.field, end] = str(error)
        else:
            for each, end in zip(found, drawn, strict=True):
                left.pop((each.field, end), None)
    for (field, end), reason in left.items():
        if reason:
            raise LenetError(f"--vary {field}: {end} is not possible: {reason}")


def recipe_at(base: Recipe, found: Sequence[Dimension], drawn: Sequence[Any]) -> Recipe:
    """The recipe with what was drawn for each dimension.

    Raises:
        LenetError: there is no such recipe.
    """
    values = {each.field: each.value(value) for each, value in zip(found, drawn, strict=True)}
    return base.changed(**values)


KINDS: dict[str, Any] = {
    field: kind
    for part in (Recipe, *NETWORKS.values(), *PARTS.values())
    for field, kind in annotations(part).items()
    if field not in PARTS
}


def example(field: str) -> str:
    """A spelling that holds for this field."""
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
        LenetError: it spells none.
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
