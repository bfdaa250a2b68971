"""Checks the fields of a dataclass against its annotations, where values enter the program."""

import dataclasses
import difflib
import reprlib
import types
import typing
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Literal, TypeVar

from lenet.errors import LenetError, is_printable

Instance = TypeVar("Instance")

LARGEST_NUMBER = 1e300  # JSON has larger ones, which no float holds
SHORT = reprlib.Repr()
SHORT.maxstring = SHORT.maxother = 100
WORDS = {
    "float": "a finite number",
    "int": "a whole number",
    "bool": "true or false",
    "str": "a text without control characters",
    "tuple[int, ...]": "a list of whole numbers",
    "tuple[str, ...]": "a list of texts",
    "dict[str, typing.Any]": "an object",
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


def from_json(kind: type[Instance], values: Any, source: str) -> Instance:
    """An instance of a dataclass from a JSON object of its fields.

    Fields with defaults are optional.

    Raises:
        LenetError: it has not, or a value cannot be used; the message names source and field.
    """
    names = annotations(kind)
    if not isinstance(values, dict):
        raise LenetError(f"{source} is not an object")
    optional = {n for n in names if hasattr(kind, n)}
    if missing := sorted(names.keys() - optional - values.keys()):
        raise LenetError(f"{source} has no {', '.join(missing)}")
    require_known(values, names, source)
    try:
        return kind(**values)
    except LenetError as error:
        raise LenetError(f"{source}: {error}") from None


def shown(value: Any) -> str:
    """A value as a short text, whatever it is."""
    try:
        return SHORT.repr(value)
    except ValueError:
        return "a number of thousands of digits"


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
    elif origin is dict and isinstance(value, dict):
        return {key: typed(arguments[1], item, f"{name}.{key:.50}") for key, item in value.items()}
    elif origin is Literal:
        if isinstance(value, str) and value in arguments:
            return value
        raise LenetError(f"{name} must be one of {', '.join(arguments)}, not {shown(value)}")
    elif kind is float:
        if type(value) in (int, float) and abs(value) < LARGEST_NUMBER:
            return float(value)
    elif kind is str and isinstance(value, str) and not is_printable(value):
        pass
    elif (
        kind is Any
        or type(value) is (origin or kind)
        or (dataclasses.is_dataclass(kind) and isinstance(value, typing.cast(type, kind)))
    ):
        return value
    words = str(kind) if origin else typing.cast(type, kind).__name__
    raise LenetError(f"{name} cannot be {shown(value)}; it must be {WORDS.get(words, words)}")


def require_known(values: Iterable[str], names: Mapping[str, Any] | set[str], source: str) -> None:
    """Refuses unknown names of fields.

    Raises:
        LenetError: it suggests the nearest name.
    """
    if unknown := [name[:50] for name in sorted(set(values) - set(names))]:
        near = difflib.get_close_matches(unknown[0], names, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        more = " ..." if len(unknown) > 5 else ""
        raise LenetError(f"{source} has no {', '.join(unknown[:5])}{more}{hint}")


def require(instance: Any, **rules: bool) -> None:
    """Refuses the first field whose rule does not hold.

    Raises:
        LenetError: it names the field and its value.
    """
    for name, holds in rules.items():
        if not holds:
            raise LenetError(f"{name} cannot be {shown(getattr(instance, name))}")
