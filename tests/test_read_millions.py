"""Reading on a cluster: a worker is killed, and every picture is read once."""

import json
import os
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import needs_kernels
from distributed import Client, LocalCluster
from read_millions import read_all

from lenet import Reader
from lenet.reading.formats import Expected

PICTURES, PART = 60, 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures of numbers in two folders, one of them damaged."""
    file = tmp_path
    for n in range(PICTURES):
        picture = np.full((100, 260), 235, np.uint8)
        cv2.putText(picture, f"{n:04}", (30, 70), cv2.FONT_HERSHEY_SIMPLEX, 2, 40, 5, cv2.LINE_AA)
        file = tmp_path / "pictures" / str(n % 2) / f"{n:04}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), picture)
    file.write_bytes(b"no picture")
    return tmp_path / "pictures"


@pytest.mark.slow
@needs_kernels
@pytest.mark.filterwarnings("default")  # Dask's own
def test_nothing_is_lost_or_doubled_when_a_worker_is_killed(folder: Path, tmp_path: Path) -> None:
    out, expected = tmp_path / "out", Expected("####")
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0")
    assert cluster.scheduler is not None
    with cluster, Client(cluster) as client:
        counts = read_all(client, folder, out, expected, PART)
        done = [next(counts)]
        busy = [state for state in cluster.scheduler.workers.values() if state.processing]
        nanny = cluster.workers[busy[0].name]
        victim = nanny.pid
        os.kill(victim, signal.SIGKILL)
        done += counts
        assert sum(done) == PICTURES
        assert nanny.pid != victim
        files = {file: file.stat().st_mtime_ns for file in out.glob("[0-9]*")}
        assert sum(read_all(client, folder, out, expected, PART)) == PICTURES  # from the files
    assert {file: file.stat().st_mtime_ns for file in files} == files
    assert len(files) == PICTURES // PART
    rows = [json.loads(row) for file in files for row in file.read_text().splitlines()]
    assert sorted(row["path"] for row in rows) == sorted(map(str, folder.rglob("*.png")))
    reader = Reader(expected=expected)
    for row in rows[::10]:
        if "error" not in row:
            alone = json.loads(json.dumps(reader.read(row["path"]).as_dict()))
            assert {"path": row["path"], **alone} == row
    assert [Path(row["path"]).stem for row in rows if "error" in row] == [f"{PICTURES - 1:04}"]
    right = [
        number["text"] == Path(row["path"]).stem
        for row in rows
        for number in row.get("numbers", [])
    ]
    assert np.mean(right) > 0.8
