"""Files that are either whole or not there."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lenet.errors import LenetError

PARTIAL = ".partial-"  # what names of files begin with while they are being written


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`; what is written there replaces `path` at the end.

    If anything goes wrong, what was at `path` before stays, and the temporary file is removed.

    Raises:
        LenetError: the folder cannot be written to, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(path.suffix, f"{PARTIAL}{path.stem}-", path.parent)
        os.close(handle)
    except OSError as error:
        raise LenetError(f"cannot write {path}: {error.strerror}") from None
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)  # mkstemp makes files private
        temporary.replace(path)
    except OSError as error:
        raise LenetError(
            f"cannot write {path}: {error.strerror or error}; what was there before is kept"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def remove_partial(folder: Path) -> None:
    """Removes what a killed process left half-written; nobody else may be writing there now."""
    for file in folder.glob(f"{PARTIAL}*"):
        file.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file in one piece."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
