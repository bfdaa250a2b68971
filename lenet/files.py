"""Files that are either whole or not there."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lenet.errors import LenetError


@contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[Path]:
    """Gives a temporary path beside `path`; what is written there replaces `path` at the end.

    If anything goes wrong, what was at `path` before stays, and the temporary file goes. What is
    not durable may be lost if the power fails within seconds, but is written some 10 ms sooner.

    Raises:
        LenetError: the folder cannot be written to, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{path.name}-", suffix=path.suffix, dir=path.parent
        )
        os.close(handle)
    except OSError as error:
        raise LenetError(f"cannot write {path}: {error.strerror}") from None
    temporary = Path(name)
    try:
        yield temporary
        if durable:
            with temporary.open("rb+") as stream:
                os.fsync(stream.fileno())
        temporary.chmod(0o666 & ~current_umask())  # mkstemp makes files private
        temporary.replace(path)
    except OSError as error:
        raise LenetError(
            f"cannot write {path}: {error.strerror or error}; what was there before is kept"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """Writes a text file in one piece, not durable."""
    with replacing(path, durable=False) as temporary:
        temporary.write_text(text, encoding="utf-8")
