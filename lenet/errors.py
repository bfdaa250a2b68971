"""The error that a user can cause and mend."""

from collections.abc import Iterator
from contextlib import contextmanager


class LenetError(ValueError):
    """Something the user gave cannot be used; the message names it and says what to do.

    The command line prints the message alone and exits with status 2.
    """


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Imports inside need the optional dependencies `name`; their absence becomes advice.

    Raises:
        LenetError: a module is not installed; the message says how to get it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if str(error.name).startswith("lenet"):
            raise
        raise LenetError(f"{error.name} is not installed: pip install 'lenet[{name}]'") from None
