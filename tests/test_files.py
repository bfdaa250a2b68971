"""Files are replaced in one piece or not at all."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import file_size_limit

from lenet.errors import LenetError
from lenet.files import remove_partial, replacing, write_text


def test_writes_a_new_file_in_new_folders(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "x.txt", "ä\n")
    assert (tmp_path / "a" / "b" / "x.txt").read_bytes() == "ä\n".encode()
    assert os.listdir(tmp_path / "a" / "b") == ["x.txt"]


def test_suffix_is_kept_while_writing(tmp_path: Path) -> None:
    with replacing(tmp_path / "x.png") as temporary:
        assert temporary.suffix == ".png"  # some writers choose the format by it
        assert temporary.parent == tmp_path  # else it could not be moved in one step
        assert temporary.name.startswith(".")
        assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, LenetError])
def test_failing_writer_leaves_the_old_file(failure: type[BaseException], tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_text("old")

    def write_half() -> None:
        with replacing(file) as temporary:
            temporary.write_text("half of the n")
            raise failure

    with pytest.raises(failure):
        write_half()
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["x"]


def test_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_text("old")
    with (
        file_size_limit(1000),
        pytest.raises(LenetError, match=r"cannot write .*x: .*what was there before is kept"),
    ):
        write_text(file, "n" * 5000)
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["x"]


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for file in (tmp_path / "file" / "x", tmp_path / "folder", tmp_path / ("x" * 300)):
        with pytest.raises(LenetError, match="cannot write"):
            write_text(file, "new")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_mode_is_that_of_any_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "x", "")
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640


def test_kill_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_text("old")
    script = (
        "import os, sys, pathlib, lenet.files as f\n"
        "with f.replacing(pathlib.Path(sys.argv[1])) as t:\n"
        "    t.write_text('new')\n"
        f"    os.kill(os.getpid(), {signal.SIGKILL:d})\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(file)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert file.read_text() == "old"
    assert len(os.listdir(tmp_path)) == 2
    remove_partial(tmp_path)
    assert os.listdir(tmp_path) == ["x"]
