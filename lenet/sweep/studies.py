"""Studies: trials of a sweep in a database, drawn and counted by any number of processes.

Optuna keeps the trials; this module keeps a study exact while processes come, go and die. A killed
process leaves a running trial without heartbeats; the first process to notice marks it as failed
and queues it for any process to run again. A trial counts unless it failed, and of those that count
the first `trials` by number are run, so that a study ends with the number that was requested.
"""

import random
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from lenet.errors import LenetError, extra
from lenet.sweep.search_space import Dimension

with extra("sweep"):
    import optuna
    import sqlalchemy
    from optuna.exceptions import StorageInternalError, TrialPruned, UpdateFinishedTrialError
    from optuna.samplers import TPESampler
    from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial, TrialState
    from sqlalchemy import event
    from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

REASON = "reason"  # user attribute: why a trial gave no result
SILENCE = 3  # missed heartbeats after which a process is considered dead
DEATHS = 3  # times that a trial is run again after its process died
BEGINNINGS = 10  # attempts to create the tables while other processes do the same
LOCKED = 60  # seconds that a process waits for the lock of a SQLite file
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
TAKEN = (*FINISHED, TrialState.RUNNING)


class SeededSampler(TPESampler):
    """Tree-structured Parzen estimator whose draws depend on the seed, the trial's number and the
    trials before it, and not on which process draws: no two processes draw the same by accident,
    and a stopped sweep continues as it would have.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        seed = np.random.SeedSequence([self.seed, trial.number]).generate_state(1)[0]
        super().__init__(seed=int(seed))


def draw(dimension: Dimension, trial: Trial) -> Any:
    """Draws a number, or one of the choices as it is spelled."""
    name, low, high, log = dimension.field, dimension.low, dimension.high, dimension.log
    if dimension.choices:
        return trial.suggest_categorical(name, dimension.choices)
    if dimension.whole:
        return trial.suggest_int(name, int(low), int(high), log=log)
    return trial.suggest_float(name, low, high, log=log)


def importances(study: Study) -> dict[str, float]:
    """Field -> share of the differences between complete trials that it explains, largest first.

    By PED-ANOVA (Watanabe et al., 2023). Empty for fewer than two complete trials.
    """
    if len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))) < 2:
        return {}
    with quiet():
        return optuna.importance.get_param_importances(study)


def sqlite_url(file: Path) -> str:
    return sqlalchemy.URL.create("sqlite", database=str(file)).render_as_string()


def checked_url(url: str) -> str:
    """The URL of a database, with our driver where it names none.

    Raises:
        LenetError: it is not such a URL. The message omits it, as it may hold a password.
    """
    try:
        parts = sqlalchemy.make_url(url)
        if parts.drivername in ("postgresql", "postgres"):
            parts = parts.set(drivername="postgresql+psycopg")
        parts.get_dialect()
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise LenetError(
            "--storage is no database URL; for example --storage "
            "postgresql://user:password@host:5432/database or sqlite:////shared/study.db"
        ) from None
    return parts.render_as_string(hide_password=False)


def without_password(url: str) -> str:
    return sqlalchemy.make_url(url).set(password=None).render_as_string()


@contextmanager
def quiet() -> Iterator[None]:
    """Hides warnings about Optuna's experimental features and our use of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def database(url: str, heartbeat: int) -> Iterator[RDBStorage]:
    """An open database in which each process records a heartbeat every `heartbeat` seconds.

    Raises:
        LenetError: its driver is missing, or it cannot be reached, read or written. The message
            has no password.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        storage = open_storage(url, heartbeat)
        try:
            yield storage
        finally:
            storage.remove_session()
            storage.engine.dispose()
    except ImportError:
        raise LenetError(
            f"the driver of {without_password(url)} is not installed; for PostgreSQL: "
            "pip install 'lenet[postgresql]'"
        ) from None
    except (SQLAlchemyError, StorageInternalError) as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) else error
        words = str(getattr(cause, "orig", None) or cause).strip().splitlines()[0]
        if password := sqlalchemy.make_url(url).password:
            words = words.replace(str(password), "***")
        raise LenetError(f"the database {without_password(url)} cannot be used: {words}") from None


def open_storage(url: str, heartbeat: int) -> RDBStorage:
    """Opens the database and creates its tables if necessary."""
    sqlite = sqlalchemy.make_url(url).get_backend_name() == "sqlite"
    options: dict[str, Any] = {"connect_args": {"timeout": LOCKED}} if sqlite else {}
    for attempt in range(BEGINNINGS):
        try:
            with quiet():
                storage = RDBStorage(
                    url.replace("{", "{{").replace("}", "}}"),  # Optuna takes it for a template
                    engine_kwargs={"pool_pre_ping": True, **options},
                    heartbeat_interval=heartbeat,
                    grace_period=SILENCE * heartbeat,
                    heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(DEATHS),
                )
        except DBAPIError as error:  # perhaps another process is creating the same tables
            words = str(error.orig).lower()
            if attempt == BEGINNINGS - 1 or not ("already exists" in words or "unique" in words):
                raise
            time.sleep(random.uniform(0.05, 0.3))
        else:
            if sqlite:
                lock_whole_transactions(storage.engine)
            return storage
    raise AssertionError


def lock_whole_transactions(engine: "sqlalchemy.Engine") -> None:
    """Makes SQLite take its lock when a transaction begins, not at its first write.

    Otherwise two processes may both read that a trial is waiting, and both run it.
    """

    @event.listens_for(engine, "connect")
    def begin_nothing_by_itself(connection: Any, record: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin_with_lock(connection: "sqlalchemy.Connection") -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    engine.dispose()  # closes connections that were opened before


def open_study(storage: RDBStorage, name: str, seed: int, warmup: int) -> Study:
    """The study of that name, created if it does not exist.

    Args:
        warmup: epochs in which no trial is pruned.
    """
    return optuna.create_study(
        storage=storage,
        study_name=name,
        load_if_exists=True,
        sampler=SeededSampler(seed),
        pruner=optuna.pruners.MedianPruner(n_warmup_steps=warmup, n_min_trials=3),
    )


def work(
    study: Study,
    storage: RDBStorage,
    trials: int,
    run_trial: Callable[[Trial], float],
    tell: Callable[[FrozenTrial | None, list[FrozenTrial]], None],
) -> None:
    """Runs trials, beside other processes that do the same, until `trials` are finished.

    Args:
        run_trial: returns a trial's value; raises `TrialPruned`, or LenetError if the trial is not
            possible, which counts as pruned.
        tell: is called with all trials, and with the one that this process has just finished or
            None; about once a second while other processes finish theirs.
    """
    seen: set[int] = set()
    finished = None
    while True:
        with quiet():
            optuna.storages.fail_stale_trials(study)
        every = study.get_trials(deepcopy=False)
        tell(finished, every)
        finished = None
        if sum(trial.state in FINISHED for trial in every) >= trials:
            return
        if sum(trial.state in TAKEN for trial in every) < trials:
            with quiet():  # Optuna expects only its own heartbeats
                trial = study.ask()
            with heartbeats(storage, trial):
                finished = one_trial(study, trial, trials, run_trial)
            continue
        for other in every:
            if other.state is TrialState.RUNNING and other.number not in seen:
                seen.add(other.number)  # it may have died before its first heartbeat
                storage.record_heartbeat(other._trial_id)
        time.sleep(1)


def one_trial(
    study: Study, trial: Trial, trials: int, run_trial: Callable[[Trial], float]
) -> FrozenTrial | None:
    """Runs one trial and records its outcome; None if it does not count."""
    others = study.get_trials(deepcopy=False, states=(*TAKEN, TrialState.WAITING))
    if sum(other.number < trial.number for other in others) >= trials:
        trial.set_user_attr(REASON, "others had taken all trials")
        study.tell(trial, state=TrialState.FAIL)
        return None
    try:
        state, value = outcome(study, trial, run_trial)
        told = study.tell(trial, value, state, skip_if_finished=True)
    except UpdateFinishedTrialError:  # this process slept and was considered dead
        return None
    return told if told.state in FINISHED else None


def outcome(
    study: Study, trial: Trial, run_trial: Callable[[Trial], float]
) -> tuple[TrialState, float | None]:
    """State and value of a trial; an unexpected error leaves it failed."""
    try:
        return TrialState.COMPLETE, run_trial(trial)
    except TrialPruned:
        return TrialState.PRUNED, None
    except LenetError as error:
        trial.set_user_attr(REASON, str(error))
        return TrialState.PRUNED, None
    except UpdateFinishedTrialError:
        raise
    except BaseException as error:
        with suppress(UpdateFinishedTrialError):
            if isinstance(error, KeyboardInterrupt):
                with quiet():  # to be run again when the sweep goes on
                    RetryHeartbeatStaleTrialCallback()(study, study.trials[trial.number])
            trial.set_user_attr(REASON, f"stopped by {type(error).__name__}")
            study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
        raise


@contextmanager
def heartbeats(storage: RDBStorage, trial: Trial) -> Iterator[None]:
    """Records this process's heartbeats from a thread while the trial runs."""
    interval = storage.get_heartbeat_interval()
    done = threading.Event()

    def beat() -> None:
        while not done.wait(interval):
            with suppress(SQLAlchemyError, StorageInternalError):  # the next one may succeed
                storage.record_heartbeat(trial._trial_id)
        storage.remove_session()

    storage.record_heartbeat(trial._trial_id)
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
