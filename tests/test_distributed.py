"""Runs shared by processes: the same result as one process, and going on when one is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import needs_kernels
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

import lenet
from lenet import data
from lenet.errors import LenetError
from lenet.networks import checkpoint
from lenet.training import train
from lenet.training.engines import choose_device
from lenet.training.recipe import Recipe
from lenet.training.recipes import RECIPES
from lenet.training.run import METRICS, Settings, read_environment, read_metrics
from lenet.training.world import World, find_world

PATIENCE = 900  # seconds after which a process is taken to hang
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
TORCHRUN += ["-m", "lenet", "train"]


@pytest.fixture(scope="module")
def base(digit_folder: Path) -> Recipe:
    """640 images in batches of 71: the last has one, so that one process has nothing to do."""
    return Recipe(name="shared", data=str(digit_folder), epochs=2, batch_size=71, seed=3)


def write(recipe: Recipe, folder: Path) -> str:
    file = folder / "recipe.json"
    file.write_text(json.dumps(recipe.as_dict()))
    return str(file)


def assert_alike(folder: Path, alone: Path) -> None:
    """Weights and records of each step agree up to the rounding of sums in another order."""
    found, expected = (load_file(run / checkpoint.WEIGHTS) for run in (folder, alone))
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=0, atol=2e-4 * np.abs(array).max())
    records, wanted = read_metrics(folder), read_metrics(alone)
    assert len(records) == len(wanted)
    for record, other in zip(records, wanted, strict=True):
        for name, value in other.items():
            if name != "seconds":
                assert record[name] == pytest.approx(value, rel=1e-3, abs=0.02), name


@given(st.integers(0, 1000), st.integers(1, 20))
def test_every_row_has_one_process(count: int, size: int) -> None:
    shares = [range(count)[World(rank, size).rows(count)] for rank in range(size)]
    assert [row for share in shares for row in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_what_torchrun_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_world() == World(0, 1, 0, 1)
    said = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    assert find_world() == World(5, 8, 1, 4)
    assert choose_device("cpu", find_world()) == "cpu"
    monkeypatch.delenv("LOCAL_RANK")
    with pytest.raises(LenetError, match="start with torchrun"):
        find_world()


def test_cores_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lenet.training.world.usable_cores", lambda: 7)
    assert [World(0, 9, 0, size).threads for size in (1, 2, 3, 8)] == [7, 3, 2, 1]


def test_processes_share_cuda_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes the one of its number; that there are such is not to be seen here."""
    monkeypatch.setattr(torch, "ones", lambda *size, device: torch.zeros(1))
    assert choose_device("cuda:0", World(5, 8, 1, 4)) == "cuda:1"
    assert choose_device("cuda:3") == "cuda:3"
    with pytest.raises(LenetError, match="CPUs or CUDA devices, not mps"):
        choose_device("mps", World(5, 8, 1, 4))


def test_one_pattern_at_a_time_cannot_be_shared(digit_folder: Path) -> None:
    recipe = RECIPES["lenet5-1998"].changed(data=str(digit_folder))
    settings = Settings("cpu", "auto", 1, None, False, ".", 2)
    with pytest.raises(LenetError, match="cannot be shared among 2 processes: start it without"):
        train.assemble(recipe, data.load(recipe.data), settings, World(0, 2))


def torchrun(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    line = [*TORCHRUN, *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    return done


STOPPED = """
import sys
from lenet import cli
from lenet.training import train

def save_and_stop(session, *arguments, save=train.save_epoch):
    save(session, *arguments)
    session.world.meet()
    raise KeyboardInterrupt  # in all processes after their first epoch

train.save_epoch = save_and_stop
sys.exit(cli.main(["train", *sys.argv[1:]]))
"""


@pytest.mark.slow
@needs_kernels
def test_two_processes_share_steps_and_go_on(base: Recipe, tmp_path: Path) -> None:
    """Two processes make what one would have made, with distortions, schedule and AdamW, and write
    it once. Stopped after an epoch they go on: from a run of two to the bits of two that were never
    stopped, of one up to rounding."""
    recipe = base.changed(
        optimizer="adamw",
        lr=3e-3,
        schedule="cosine",
        warmup=0.3,
        activation="gelu",
        shift=1.0,
        rotation=10.0,
    )
    whole = [write(recipe, tmp_path), "--threads", "1", "--out"]
    done = torchrun(*whole, tmp_path / "whole")
    assert done.stdout.count("on the test set of") == 1
    assert done.stderr.count("epoch 2/2 ") == 1
    alone = lenet.train(recipe, out=tmp_path / "alone", threads=1)
    assert_alike(tmp_path / "whole", alone.path)
    assert set(os.listdir(tmp_path / "whole")) == set(os.listdir(alone.path))
    settings, _ = read_environment(tmp_path / "whole")
    assert (settings.processes, settings.engine) == (2, "fused")
    stopping = tmp_path / "stopping.py"
    stopping.write_text(STOPPED)
    for name, line in (("two", TORCHRUN[:4]), ("one", [sys.executable])):
        line = [*line, stopping, *whole, tmp_path / name]
        subprocess.run(line, capture_output=True, timeout=PATIENCE, check=False)
        folder = tmp_path / name
        assert [r["epoch"] for r in read_metrics(folder) if "epoch" in r] == [1]
        assert not (folder / checkpoint.WEIGHTS).exists()
        torchrun("--resume", folder)
        settings, _ = read_environment(folder)
        assert settings.engine == "fused"
        assert_alike(folder, tmp_path / "whole")
    # The arrays, as the file's header has its names in any order.
    whole, resumed = (load_file(tmp_path / n / checkpoint.WEIGHTS) for n in ("whole", "two"))
    assert all(resumed[name].tobytes() == array.tobytes() for name, array in whole.items())
    losses = [
        [record.get("loss") for record in read_metrics(tmp_path / name)]
        for name in ("whole", "two")
    ]
    assert losses[0] == losses[1]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds processes in /proc")
def test_a_process_is_killed(base: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one says so, and one process alone goes on to what it would have made itself."""
    monkeypatch.setattr("lenet.training.world.usable_cores", lambda: 1)  # where it goes on
    recipe = base.changed(momentum=0.5, lr=0.02, activation="silu", epochs=10)
    folder = tmp_path / "shared"
    line = [*TORCHRUN, write(recipe, tmp_path), "--threads", "1", "--out", folder]
    line += ["--engine", "autograd"]
    job = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        metrics = folder / METRICS
        while not (metrics.exists() and '"epoch": 2' in metrics.read_text()):
            assert job.poll() is None, job.communicate()
            time.sleep(0.1)
        (victim,) = [pid for pid in children(job.pid) if rank(pid) == "1"]
        os.kill(victim, signal.SIGKILL)
        output, _ = job.communicate(timeout=PATIENCE)
    finally:
        job.terminate()  # torchrun ends its processes
    assert job.returncode != 0
    assert "lenet train (process 0): " in output
    assert f"lenet train --resume {folder}" in output
    assert "lenet/training/" not in output  # no traceback of ours
    before = len(read_metrics(folder))
    resumed = lenet.resume(folder)
    assert len(read_metrics(folder)) > before
    settings, _ = read_environment(folder)
    assert settings.processes == 2
    alone = lenet.train(recipe, out=tmp_path / "alone", threads=1, engine="autograd")
    assert_alike(resumed.path, alone.path)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def rank(pid: int) -> str:
    variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return next((v[5:].decode() for v in variables if v.startswith(b"RANK=")), "")
