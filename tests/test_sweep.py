"""Sweeps: what is drawn, measured and kept, and processes that share a study and die."""

import csv
import glob
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import optuna
import pytest
from conftest import write_idx
from optuna.trial import FrozenTrial, Trial, TrialState

import lenet
from lenet import data
from lenet.commands import sweep as command_line
from lenet.errors import LenetError
from lenet.sweep import studies, sweep
from lenet.sweep.search_space import search_space
from lenet.training.recipe import Recipe
from lenet.training.recipes import find

HELD_OUT = 160
PATIENCE = 900  # seconds after which a process of a test is taken to hang
LR = "lr=1e-4..3e-2:log"
ACTIVATION = "activation=relu,tanh"


@pytest.fixture(scope="module")
def base(quick_recipe: Recipe) -> Recipe:
    return quick_recipe.changed(epochs=2, validation=HELD_OUT)


@pytest.fixture(autouse=True, scope="module")
def no_figures() -> Iterator[None]:
    """Figures take longer than these sweeps; test_figures.py has them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep.style, "save", lambda figure, path: None)
        yield


@pytest.fixture(scope="module")
def through(base: Recipe, tmp_path_factory: pytest.TempPathFactory) -> sweep.Outcome:
    """A sweep from start to end, past the ten random trials that the estimator begins with."""
    folder = tmp_path_factory.mktemp("sweep")
    return sweep.sweep(base, [LR, ACTIVATION], trials=13, out=folder, threads=1)


def by_number(outcome: sweep.Outcome) -> list[tuple]:
    """What must be the same in the same sweep: all but the time."""
    rows = sorted(outcome.results, key=lambda each: each.number)
    return [(r.number, r.state, r.error, r.epochs, r.values, r.reason) for r in rows]


# What a sweep finds


def test_values_are_drawn_as_asked(through: sweep.Outcome) -> None:
    assert [number for number, *_ in by_number(through)] == list(range(13))
    rates = [each.values["lr"] for each in through.results]
    assert all(1e-4 <= lr <= 3e-2 for lr in rates)
    assert len(set(rates)) == 13
    assert sum(lr < np.sqrt(1e-4 * 3e-2) for lr in rates) >= 2  # as many below as above, at first
    assert {each.values["activation"] for each in through.results} == {"relu", "tanh"}


def test_errors_are_those_of_training(through: sweep.Outcome, base: Recipe, tmp_path: Path) -> None:
    """`lenet train` with the winner's values and the same part held out measures the same error."""
    best = through.results[0]
    assert best.error == min(r.error for r in through.results if r.state == "complete" and r.error)
    recipe = base.changed(**best.values)
    run = lenet.train(recipe, out=tmp_path / "run", threads=1)
    assert run.report.error == best.error
    assert run.report.count == HELD_OUT


def test_the_winner_is_a_recipe(through: sweep.Outcome, base: Recipe) -> None:
    best = through.results[0].values
    recipe = find(str(through.folder / sweep.BEST))
    assert recipe == base.changed(**best, name="quick-swept", validation=0)


def test_table(through: sweep.Outcome) -> None:
    with (through.folder / sweep.TRIALS).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["trial"]) for row in rows] == [r.number for r in through.results]
    for row, result in zip(rows, through.results, strict=True):
        assert float(row["validation_error"]) == result.error
        assert float(row["lr"]) == result.values["lr"]
        assert row["activation"] == result.values["activation"]
        assert (row["state"], int(row["epochs"])) == (result.state, result.epochs)


def test_pruned_trials_were_worse_than_the_median(through: sweep.Outcome) -> None:
    """Stopped early, with an error above the median of those that were complete by then."""
    with studies.database(studies.sqlite_url(through.folder / "study.db"), 10) as database:
        study = optuna.load_study(study_name=through.name, storage=database)
        trials = study.trials
    pruned = [t for t in trials if t.state is TrialState.PRUNED]
    assert pruned
    for trial in pruned:
        ((epoch, error),) = trial.intermediate_values.items()
        before = [
            t.intermediate_values[epoch]
            for t in trials[: trial.number]
            if t.state is TrialState.COMPLETE
        ]
        assert len(before) >= 5
        assert error > np.median(before)


def test_importances_are_shares(through: sweep.Outcome) -> None:
    assert set(through.importances) == {"lr", "activation"}
    assert sum(through.importances.values()) == pytest.approx(1)


def test_the_test_set_has_no_say(through: sweep.Outcome, base: Recipe, tmp_path: Path) -> None:
    """Other test images, the same trials."""
    folder = tmp_path / "other"
    shutil.copytree(base.data, folder)
    write_idx(folder / data.FILES[2], np.zeros((5, 28, 28), np.uint8))
    write_idx(folder / data.FILES[3], np.zeros(5, np.uint8))
    recipe = base.changed(data=str(folder))
    again = sweep.sweep(recipe, [LR, ACTIVATION], trials=3, out=tmp_path / "sweep", threads=1)
    assert by_number(again) == by_number(through)[:3]


def test_the_last_ten_thousand_are_held_out(base: Recipe) -> None:
    with pytest.raises(LenetError, match="cannot hold out 10000 of 640"):
        sweep.sweep(base.changed(validation=0), [LR])


# Going on


def test_stopped_and_gone_on_with(through: sweep.Outcome, base: Recipe, tmp_path: Path) -> None:
    """The trials are those of a sweep that was never stopped."""
    sweep.sweep(base, [LR, ACTIVATION], trials=4, out=tmp_path, threads=1)
    plan = sweep.read(tmp_path)
    assert plan == sweep.Plan(base, (LR, ACTIVATION), 4, None)
    assert command_line.run(["--resume", str(tmp_path), "--trials", "13", "--threads", "1"]) == 0
    with studies.database(studies.sqlite_url(tmp_path / "study.db"), 10) as database:
        study = optuna.load_study(study_name=through.name, storage=database)
        space = search_space(plan.vary, base)
        trials = [sweep.result(trial, space) for trial in study.trials]
    outcome = sweep.Outcome(tmp_path, through.name, base, tuple(trials), {})
    assert by_number(outcome) == by_number(through)


def test_another_seed_draws_other_values(
    through: sweep.Outcome, base: Recipe, tmp_path: Path
) -> None:
    other = base.changed(seed=1)
    outcome = sweep.sweep(other, [LR, ACTIVATION], trials=2, out=tmp_path, threads=1)
    assert outcome.name != through.name
    rates = {each.values["lr"] for each in outcome.results}
    assert not rates & {each.values["lr"] for each in through.results}


def test_another_sweep_in_the_folder(through: sweep.Outcome, base: Recipe) -> None:
    with pytest.raises(LenetError, match="holds another sweep: name a folder"):
        sweep.sweep(base, [LR], out=through.folder)


def test_a_stopped_trial_is_run_again(
    base: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """After Ctrl-C, with the same values and not counted twice."""
    train = sweep.Trainer.train

    def interrupted(self: sweep.Trainer, trial: Trial) -> float:
        error = train(self, trial)
        if trial.number == 1:
            raise KeyboardInterrupt
        return error

    monkeypatch.setattr(sweep.Trainer, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sweep.sweep(base, [LR], trials=3, out=tmp_path, threads=1)
    assert f"lenet sweep --resume {tmp_path}" in capfd.readouterr().err
    outcome = sweep.sweep(base, [LR], trials=3, out=tmp_path, threads=1)
    trials = {each.number: each for each in outcome.results}
    assert [trials[n].state for n in range(4)] == ["complete", "failed", "complete", "complete"]
    assert trials[1].reason == "stopped by KeyboardInterrupt"
    assert trials[2].values == trials[1].values


# What cannot be trained


def test_impossible_trials_count_and_say_why(base: Recipe, tmp_path: Path) -> None:
    outcome = sweep.sweep(
        base, ["kernel_sizes=5,31", "lr=1e-3,1e6"], trials=12, out=tmp_path, threads=1
    )
    assert len(outcome.results) == 12
    for each in outcome.results:
        possible = each.values == {"kernel_sizes": (5,), "lr": 1e-3}
        assert (each.state != "impossible") == possible
        assert bool(each.reason) != possible
    assert outcome.best.as_dict()["kernel_sizes"] == [5]
    assert any("scores are not finite" in r.reason or "loss" in r.reason for r in outcome.results)


def test_nothing_possible(base: Recipe, tmp_path: Path) -> None:
    with pytest.raises(LenetError, match="no trial was completed; the first reason: "):
        sweep.sweep(base, ["kernel_sizes=31,33"], trials=2, out=tmp_path, threads=1)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("hunter2", "is no database URL"),
        ("hunter2://x:hunter2@y", "is no database URL"),
        ("postgresql://me:hunter2@127.0.0.1:1/x", "cannot be used: "),
        ("postgresql://me:hunter2@127.0.0.1:port/x", "is no database URL"),
        ("sqlite:////nowhere/at/all.db", "unable to open"),
    ],
)
def test_databases_out_of_reach(
    url: str, words: str, base: Recipe, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("psycopg", reason="the driver is not installed")
    with pytest.raises(LenetError, match=words) as error:
        sweep.sweep(base, [LR], out=tmp_path, storage=url, threads=1)
    kept = (tmp_path / sweep.SWEEP).read_text() if (tmp_path / sweep.SWEEP).exists() else ""
    assert "hunter2" not in f"{error.value}{capfd.readouterr()}{kept}"


def test_flags(base: Recipe, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(LenetError, match="no recipe, --vary or --out"):
        command_line.run(["mnist", "--resume", "x"])
    with pytest.raises(LenetError, match=r"there is no sweep\.json"):
        command_line.run(["--resume", "/nowhere"])
    with pytest.raises(LenetError, match=r"at least one --vary lr=1e-4\.\.1e-2:log"):
        command_line.run([])


# Many processes


def finished(trials: list[FrozenTrial]) -> list[int]:
    return [t.number for t in trials if t.state in studies.FINISHED]


def test_a_trial_that_died_before_its_first_heartbeat(tmp_path: Path) -> None:
    url = studies.sqlite_url(tmp_path / "study.db")
    with studies.database(url, 1) as database:
        study = studies.open_study(database, "x", 0, 1)
        dead = [studies.Trial(study, database.create_new_trial(study._study_id)) for _ in range(2)]
        dead[1].suggest_float("x", 0, 1)
        value = study.trials[1].params["x"]
        studies.work(study, database, 3, lambda t: t.suggest_float("x", 0, 1), lambda *told: None)
        trials = study.trials
    assert [t.state for t in trials[:2]] == [TrialState.FAIL] * 2
    assert len(finished(trials)) == 3
    assert sum(t.params["x"] == value for t in trials[2:]) == 1


def test_a_process_that_slept_is_not_counted(tmp_path: Path) -> None:
    """Others took it for dead while its trial ran; what it brings comes too late."""
    url = studies.sqlite_url(tmp_path / "study.db")
    with studies.database(url, 100) as database:
        study = studies.open_study(database, "x", 0, 1)

        def sleepy(trial: Trial) -> float:
            value = trial.suggest_float("x", 0, 1)
            if trial.number == 1:
                database.set_trial_state_values(trial._trial_id, TrialState.FAIL)
            if trial.number == 2:
                database.set_trial_state_values(trial._trial_id, TrialState.FAIL)
                trial.report(value, 1)
            return value

        studies.work(study, database, 3, sleepy, lambda *told: None)
        assert finished(study.trials) == [0, 3, 4]


WORKER = """
import sys, time
from lenet.sweep import studies
with studies.database(sys.argv[1], 10) as database:
    study = studies.open_study(database, "x", 0, 1)
    def run_trial(trial):
        value = trial.suggest_float("x", 0, 1)
        print(trial.number, flush=True)
        return value
    studies.work(study, database, 24, run_trial, lambda *told: None)
"""


@pytest.mark.slow
def test_processes_that_hurry(server: str) -> None:
    """Three processes begin one study at once: as many trials as asked for, each run once."""
    line = [sys.executable, "-W", "error", "-c", WORKER, server]
    workers = [subprocess.Popen(line, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    printed = [worker.communicate(timeout=PATIENCE)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0]
    ran = sorted(int(number) for lines in printed for number in lines.split())
    with studies.database(server, 10) as database:
        study = optuna.load_study(study_name="x", storage=database)
        assert ran == finished(study.trials)
        assert len(ran) == 24
        assert {t.state for t in study.trials} <= {TrialState.COMPLETE, TrialState.FAIL}
        assert len({t.params["x"] for t in study.trials if t.params}) == 24


VICTIM = """
import os, signal, sys, time
from lenet import cli
from lenet.sweep import studies

report = studies.Trial.report

def report_and_be_killed(trial, error, epoch):
    report(trial, error, epoch)
    if epoch == 2:  # and when the other process has had an epoch of a trial, too
        while not any(t.number != trial.number and t.intermediate_values
                      for t in trial.study.get_trials()):
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGKILL)

studies.Trial.report = report_and_be_killed
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_two_processes_one_killed(server: str, base: Recipe, tmp_path: Path) -> None:
    """No trial is lost or counted twice; that of the killed process is run again."""
    recipe, trials, epochs = tmp_path / "recipe.json", 6, 4
    recipe.write_text(json.dumps(base.changed(epochs=epochs).as_dict()))
    flags: list[str | Path] = ["sweep", recipe, "--vary", LR, "--vary", "init=torch,lecun-uniform"]
    flags += ["--storage", server, "--out", tmp_path / "out"]
    flags += ["--trials", str(trials), "--heartbeat", "1", "--threads", "1"]
    logs = [tmp_path / "killed.txt", tmp_path / "other.txt"]
    with ExitStack() as stack:
        processes = []
        for log, program in zip(logs, (["-c", VICTIM], ["-m", "lenet"]), strict=True):
            line = [sys.executable, "-W", "error", *program, *flags]
            file = stack.enter_context(log.open("w"))
            processes.append(subprocess.Popen(line, stdout=file, stderr=file))
            stack.callback(processes[-1].kill)
        assert processes[0].wait(PATIENCE) == -signal.SIGKILL, logs[0].read_text()
        assert processes[1].wait(PATIENCE) == 0, logs[1].read_text()
    with studies.database(server, 10) as database:
        (name,) = optuna.get_all_study_names(database)
        study = optuna.load_study(study_name=name, storage=database)
        final = study.trials
    states = [t.state for t in final]
    assert len(finished(final)) == trials
    assert states.count(TrialState.RUNNING) + states.count(TrialState.WAITING) == 0
    failed = [t for t in final if t.state is TrialState.FAIL and t.params]
    assert len(failed) == 1
    again = [t for t in final if t.system_attrs.get("failed_trial") == failed[0].number]
    assert len(again) == 1
    assert again[0].params == failed[0].params
    assert again[0].state in studies.FINISHED
    for trial in final:
        if trial.state is TrialState.COMPLETE:
            assert sorted(trial.intermediate_values) == list(range(1, epochs + 1))
    # Each finished trial was announced by the one process that ran it.
    announced = [
        int(text.split()[1].rstrip(":"))
        for log in logs
        for text in log.read_text().splitlines()
        if text.startswith("trial ") and "error" in text
    ]
    assert sorted(announced) == finished(final)
    with (tmp_path / "out" / sweep.TRIALS).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(int(row["trial"]) for row in rows) == [t.number for t in final]
    assert sum(row["state"] in ("complete", "pruned") for row in rows) == trials


@pytest.fixture(params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of that kind."""
    if request.param == "sqlite":
        return studies.sqlite_url(tmp_path / "study.db")
    create: Callable[[], str] = request.getfixturevalue("postgresql")
    return create()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Callable[[], str]]:
    """A PostgreSQL server of our own on loopback; gives the URL of a new database each time."""
    psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")
    programs = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb")) or [shutil.which("initdb")]
    if programs[-1] is None:
        pytest.skip("no PostgreSQL server is installed (Debian: apt install postgresql)")
    bin_folder = Path(programs[-1]).parent
    folder = Path(tempfile.mkdtemp(prefix="lenet-postgresql-"))  # pytest's are closed to others
    user = []
    if os.getuid() == 0:  # the server refuses to run as root
        shutil.chown(folder, "postgres", "postgres")
        user = ["runuser", "-u", "postgres", "--"]
    password = f"{secrets.token_hex(8)}%7B"  # ends with { in a URL
    (folder / "password").write_text(password.replace("%7B", "{"))
    (folder / "password").chmod(0o644)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    cluster = folder / "cluster"

    def call(program: str, *arguments: str | Path) -> None:
        line = [*user, bin_folder / program, "-D", cluster, *arguments]
        subprocess.run(line, check=True, capture_output=True, timeout=60, cwd=folder)

    initial = ["--username=lenet", f"--pwfile={folder / 'password'}", "--auth=scram-sha-256"]
    call("initdb", *initial, "--no-sync", "--locale=C", "--encoding=UTF8")
    options = f"-h 127.0.0.1 -p {port} -k {folder} -c fsync=off"
    call("pg_ctl", "-w", "-l", cluster / "log", "-o", options, "start")
    address = f"postgresql://lenet:{password}@127.0.0.1:{port}"
    names = (f"sweep{number}" for number in range(100))

    def create() -> str:
        name = next(names)
        with psycopg.connect(f"{address}/postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return studies.checked_url(f"{address}/{name}")

    try:
        yield create
    finally:
        call("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(folder)
