"""Files that are either whole or not there, and what may be read of those of strangers."""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lenet.errors import LenetError

PARTIAL = ".partial-"  # what names of files begin with while they are being written
ABANDONED = 86_400  # seconds after which nobody is still writing such a file
LARGEST_JSON = 1 << 20  # bytes


def checked_path(path: str | Path) -> Path:
    """A path as a user or a file names it; ~ is the home folder. It need not exist.

    Raises:
        LenetError: there can be no such path: its name is too long or has a null, there is no such
            user, or a folder above it may not be entered.
    """
    try:
        path = Path(path).expanduser()
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError, RuntimeError) as error:
        words = getattr(error, "strerror", None) or error
        raise LenetError(f"{str(path)[:100]!r} cannot be used as a path: {words}") from None
    return path


def require_regular(file: Path) -> None:
    """Refuses named pipes and devices, which may never end. What is missing is left to the reader.

    Raises:
        LenetError: it is no regular file.
    """
    if file.exists() and not file.is_file():
        raise LenetError(f"{file} cannot be read: it is not a regular file")


def read_json(file: Path) -> Any:
    """Reads a small JSON file.

    Raises:
        LenetError: there is no such file, it is too large, or it is no JSON.
    """
    require_regular(file)
    try:
        with file.open("rb") as stream:
            content = stream.read(LARGEST_JSON + 1)
    except OSError as error:
        raise LenetError(f"{file} cannot be read: {error.strerror}") from None
    return parse_json(content, f"{file} cannot be read")


def parse_json(content: bytes | str, complaint: str) -> Any:
    """The value of a JSON text that a stranger may have written.

    Raises:
        LenetError: the text is too large, nested too deeply, or no JSON; it begins with the
            complaint.
    """
    if len(content) > LARGEST_JSON:
        raise LenetError(f"{complaint}: it has more than {LARGEST_JSON >> 20} MiB")
    try:
        return json.loads(content)
    except RecursionError:
        raise LenetError(f"{complaint}: it is nested too deeply") from None
    except ValueError as error:  # no JSON, no UTF-8, or a number of thousands of digits
        raise LenetError(f"{complaint}: {error}") from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`; what is written there replaces `path` at the end.

    If anything goes wrong, what was at `path` before stays, and the temporary file is removed.

    Raises:
        LenetError: the folder cannot be written to, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_partial(path.parent, ABANDONED)
        handle, name = tempfile.mkstemp(path.suffix, f"{PARTIAL}{path.stem}-", path.parent)
        os.close(handle)
    except OSError as error:
        raise LenetError(f"cannot write {path}: {error.strerror}") from None
    except ValueError as error:  # a null in the name
        raise LenetError(f"cannot write {path}: {error}") from None
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


def remove_partial(folder: Path, age: float = 0) -> None:
    """Removes what killed processes left half-written.

    Args:
        age: seconds since it was last changed; 0 where nobody else may be writing now.
    """
    for file in folder.glob(f"{PARTIAL}*"):
        with suppress(OSError):  # another process was faster
            if time.time() - file.lstat().st_mtime >= age:
                shutil.rmtree(file) if file.is_dir() else file.unlink()


def partial_folder(folder: Path) -> "tempfile.TemporaryDirectory[str]":
    """A folder within `folder`, which is made if it is missing, for files that are to be moved into
    it when they are complete.

    Raises:
        OSError: it cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remove_partial(folder, ABANDONED)
    return tempfile.TemporaryDirectory(prefix=PARTIAL, dir=folder)


def write_text(path: Path, text: str) -> None:
    """Writes a text file in one piece."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
