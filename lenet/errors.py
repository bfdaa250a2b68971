"""The error for what a user can correct."""

from collections.abc import Iterator
from contextlib import contextmanager


class LenetError(ValueError):
    """Input cannot be used; the message names it and says what to do.

    The command line prints only the message and exits with status 2.
    """


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Reports a missing module of the optional dependencies `name`, which the imports inside need.

    Raises:
        LenetError: a module is not installed; the message says how to install it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if str(error.name).startswith("lenet"):
            raise
        raise LenetError(f"{error.name} is not installed: pip install 'lenet[{name}]'") from None
