"""Checks the fields of a dataclass against its annotations, where values enter the program."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Literal

from lenet.errors import LenetError

LARGEST_NUMBER = 1e300  # JSON has larger ones, which no float holds
WORDS = {
    "float": "a finite number",
    "int": "a whole number",
    "bool": "true or false",
    "str": "a text",
    "tuple[int, ...]": "a list of whole numbers",
    "tuple[str, ...]": "a list of texts",
}


def check(instance: Any) -> None:
    """Converts every field of a dataclass to its annotated type.

    Whole numbers become floats and lists tuples where these are wanted, as JSON has neither.

    Raises:
        LenetError: a value is of another type, is not finite, or is not among the choices.
    """
    for name, kind in annotations(type(instance)).items():
        object.__setattr__(instance, name, typed(kind, getattr(instance, name), name))


@cache
def annotations(kind: type) -> dict[str, Any]:
    """Field -> type of a dataclass."""
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def typed(kind: Any, value: Any, name: str) -> Any:
    """`value`, as JSON or a caller gives it, in the annotated type."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:  # of a type and None
        return None if value is None else typed(arguments[0], value, name)
    if origin is tuple and arguments[-1] is Ellipsis and type(value) is int:
        value = (value,)  # one number is a list of one
    if origin is tuple and isinstance(value, list | tuple):
        expected = len(value) if arguments[-1] is Ellipsis else len(arguments)
        if len(value) == expected:
            return tuple(typed(arguments[0], item, name) for item in value)
    elif origin is Literal:
        if isinstance(value, str) and value in arguments:
            return value
        raise LenetError(f"{name} must be one of {', '.join(arguments)}, not {value!r:.100}")
    elif kind is float:
        if type(value) in (int, float) and abs(value) < LARGEST_NUMBER:
            return float(value)
    elif type(value) is (origin or kind) or (
        dataclasses.is_dataclass(kind) and isinstance(value, typing.cast(type, kind))
    ):
        return value
    words = str(kind) if origin else typing.cast(type, kind).__name__
    raise LenetError(f"{name} cannot be {value!r:.100}; it must be {WORDS.get(words, words)}")


def require_known(values: Iterable[str], names: Mapping[str, Any] | set[str], source: str) -> None:
    """Refuses unknown names of fields.

    Raises:
        LenetError: it suggests the nearest name.
    """
    if unknown := sorted(set(values) - set(names)):
        near = difflib.get_close_matches(unknown[0], names, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise LenetError(f"{source} has no {', '.join(unknown)}{hint}")


def require(instance: Any, **rules: bool) -> None:
    """Refuses the first field whose rule does not hold.

    Raises:
        LenetError: it names the field and its value.
    """
    for name, holds in rules.items():
        if not holds:
            raise LenetError(f"{name} cannot be {getattr(instance, name)!r:.100}")
