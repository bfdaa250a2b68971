"""Reads the numbers in millions of pictures on all the machines of a Dask cluster.

    pip install lenet distributed           # on every machine
    dask scheduler                          # on one of them
    dask worker tcp://FIRST:8786            # on every one; all see the same folders
    python docs/read_millions.py PICTURES OUT --scheduler tcp://FIRST:8786

Without --scheduler, a cluster on this machine alone. OUT gets a file of JSON lines, as of `lenet
read --json`, for every part of the pictures. A file is there whole or not at all: the part of a
worker that dies is read again by another, and who starts the program again goes on where it ended.
"""

import argparse
import json
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from distributed import Client, as_completed

from lenet import Reader
from lenet.data import PICTURES
from lenet.errors import LenetError
from lenet.files import replacing
from lenet.reading.formats import Expected

PART = 1000  # pictures in a file


def find(folder: Path) -> Iterator[str]:
    """Paths of all pictures under a folder, in the same order every time."""
    for place, folders, files in os.walk(folder):
        folders.sort()
        yield from (
            os.path.join(place, name)
            for name in sorted(files)
            if Path(name).suffix.lower() in PICTURES
        )


def read_part(paths: list[str], file: Path, expected: Expected) -> int:
    """Reads pictures into a file, unless it is there; how many there are. What a worker does."""
    if file.exists():
        return len(paths)
    reader = Reader(expected=expected)
    with replacing(file) as temporary, open(temporary, "w") as out:
        for path, reading in zip(paths, reader.read_many(paths), strict=True):
            failed = isinstance(reading, LenetError)
            answer = {"error": str(reading)} if failed else reading.as_dict()
            out.write(json.dumps({"path": path, **answer}) + "\n")
    return len(paths)


def read_all(
    client: Client, folder: Path, out: Path, expected: Expected, part: int = PART
) -> Iterator[int]:
    """Reads all pictures under a folder; yields how many there were in each part as it ends.

    Raises:
        distributed.KilledWorker: too many workers died over one part.
    """
    out.mkdir(parents=True, exist_ok=True)
    pictures = find(folder)
    parts = iter(lambda: list(islice(pictures, part)), [])
    futures = [
        client.submit(read_part, paths, out / f"{number:06}.jsonl", expected, pure=False)
        for number, paths in enumerate(parts)
    ]
    for _, count in as_completed(futures, with_results=True):
        yield count


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("pictures", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--scheduler", help="address; by default a cluster on this machine")
    parser.add_argument("--format", help="as of `lenet read`")
    arguments = parser.parse_args()
    with Client(arguments.scheduler) as client:
        done = 0
        for count in read_all(
            client, arguments.pictures, arguments.out, Expected(arguments.format)
        ):
            done += count
            print(f"{done} pictures read", flush=True)


if __name__ == "__main__":
    main()
