"""The error for what a user can correct, and how names that strangers chose are printed."""

import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

LONGEST = 1000  # characters of a line in a message


class LenetError(ValueError):
    """Input cannot be used; the message names it and says what to do.

    The command line prints only the message and exits with status 2. What a file says in a message
    is printable and not longer than a paragraph.
    """

    def __init__(self, message: str = "") -> None:
        lines = [
            line if len(line) <= LONGEST else f"{line[:LONGEST]} ..."
            for line in message.split("\n")
        ]
        super().__init__("\n".join(map(printable, lines)))


def is_printable(text: str) -> bool:
    """Whether a text has no control characters, line breaks or bytes that are no UTF-8."""
    return not any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in text)


def printable(text: str) -> str:
    """The text with what is not printable written as in Python, so that it steers no terminal."""
    if is_printable(text):
        return text
    return "".join(c if is_printable(c) else ascii(c)[1:-1] for c in text)


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
