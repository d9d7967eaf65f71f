"""A session under Ray Tune: its trials become Tune's, its decisions Tune's scheduling.

Tune places trials and carries reports; what to run, what to stop and what is written down are the
session's. Tune's own experiment state is not used: a resumed study starts a new Tune run from the
records, and each trial goes on from its own folder.
"""

import study.quiet  # noqa: F401, I100 - before Ray
import logging
import os
import pickle
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import ray
from filelock import FileLock, Timeout
from ray import tune
from ray.exceptions import RayActorError
from ray.tune.execution import class_cache
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from study.session import LiveTrial, Session
from trainables.config import ResourcesConfig
from trainables.ray_trainable import POLL_SECONDS, SLOT, Assignment, TrialTrainable
from trainables.ray_trainable import WorkersTrainable, free_workers, report_of

log = logging.getLogger(__name__)

SCRATCH_PREFIX = "s2r-"
"""Of the folders of Ray's own files; short, for the sockets in them."""

ACTOR_NAME = ":actor_name:"
"""How Ray marks a process's output."""

PROCESSES = ("TrialTrainable", "WorkersTrainable", "RayTrainWorker", "TrainController")
"""Those whose output the study's log keeps."""

GRACE_SECONDS = 0.3
"""Before Ray is started: bad data mostly show themselves sooner."""

MAX_LINES = 1000
"""Of each process's output that it keeps."""


class _LeftOut:
    """Of Tune's snapshots, which nobody reads: the state is in the session's own files."""

    def __getstate__(self) -> dict[str, object]:
        return {}


class Interrupted(KeyboardInterrupt):
    """A signal came: Ray and the trials under way are left as they are."""


class Interruption(_LeftOut, tune.Stopper):
    """Ends the run at the first Ctrl-C or SIGTERM; the trials can go on later.

    The signal is noted and acted upon between two events, so that records and Optuna's storage
    are whole. A second signal is as if there were nobody to take it.

    Args:
        check: Raises what else is to end the run; called between the same events.
    """

    def __init__(self, check: Callable[[], None] = lambda: None) -> None:
        self.check = check
        self.requested = False
        self.before: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.getsignal(number)
                           for number in (signal.SIGINT, signal.SIGTERM)}
            self.listen()
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def listen(self) -> None:
        """Takes the signals over, also from whoever has taken them in between."""
        if not self.requested:
            for number in self.before:
                signal.signal(number, self._request)

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self.__exit__()

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Stops no single trial."""
        return False

    def stop_all(self) -> bool:
        """Asked by Tune between events; waits for no worker, whose files are whole anyway."""
        self.check()
        if self.requested:
            raise Interrupted
        return False


class SessionSearcher(_LeftOut, Searcher):
    """Hands the session's trials to Tune, those that lost their worker again.

    Tune's own retries are not used: they miss workers that are lost between trials.
    """

    def __init__(self, session: Session, cache: Path, scratch: Path, concurrency: int) -> None:
        super().__init__()
        self.session = session
        self.cache = cache
        self.scratch = scratch
        self.concurrency = concurrency
        self.again: list[LiveTrial] = []

    def suggest(  # type: ignore[override]
        self, trial_id: str
    ) -> dict[str, Any] | str | None:
        """The next trial, ``None`` for not now, or that it is over."""
        if self.session.is_over:
            return str(Searcher.FINISHED)
        self.again = [trial for trial in self.again if trial.id in self.session.live]
        trial = self.again.pop(0) if self.again else self._next()
        if trial is None:
            return None
        return dict(self._assignment(trial))

    def _assignment(self, trial: LiveTrial) -> Assignment:
        layout = self.session.layout
        return Assignment(
            id=trial.id, attempt=trial.restarts, trial=trial.config.model_dump(mode="json"),
            folder=str(layout.workplace(trial.id).absolute()),
            cache=str(self.cache.absolute()), scratch=str(self.scratch.absolute()),
            store=str(layout.store / "trials" / trial.id) if layout.store else None,
            shared_store=str(layout.store.parent / "cache") if layout.store else None)

    def _next(self) -> LiveTrial | None:
        if len(self.session.live) >= self.concurrency:
            return None
        return self.session.next_trial()

    def lose(self, trial_id: str, cause: str) -> None:
        """Takes back a trial whose worker was lost, unless that has happened too often."""
        trial = self.session.live.get(trial_id)
        if trial is None:
            return
        log.warning("%s lost a worker: %s", trial_id, cause)
        if trial.restarts >= self.session.study.max_restarts:
            times = f"{trial.restarts + 1} times" if trial.restarts else "once"
            self.session.on_failure(trial_id, f"a worker was lost {times}; see the log")
        else:
            self.session.on_restart(trial_id)
            self.again.append(trial)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None,
                          error: bool = False) -> None:
        """Nothing: the session knew before Tune did."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the records are the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the records are the state."""


class SessionScheduler(_LeftOut, FIFOScheduler):
    """Brings results to the session and its decisions to Tune."""

    def __init__(self, session: Session, searcher: SessionSearcher) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.session = session
        self.searcher = searcher

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Stops the trial if the session says so."""
        return str(TrialScheduler.STOP if self._take(trial, result) else TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]
                          ) -> None:
        """Takes the last result of a trial that ended by itself."""
        self._take(trial, result)

    def _take(self, trial: Trial, result: dict[str, Any]) -> bool:
        """Passes a result on; says whether the trial has ended."""
        trial_id = trial.config["id"]
        if result["training_iteration"] == 1 and trial_id in self.session.live:
            log.info("%s runs in process %d", trial_id, result["pid"])
        report = report_of(result)
        if report is not None:
            return self.session.on_report(trial_id, report)
        if "lost" in result:
            self.searcher.lose(trial_id, result["lost"])
        else:
            self.session.on_failure(trial_id, result["failed"])
        return True


class SessionCallback(_LeftOut, tune.Callback):
    """Tells the searcher of processes that are gone."""

    def __init__(self, session: Session, searcher: SessionSearcher, several: bool) -> None:
        self.session = session
        self.searcher = searcher
        self.several = several

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
                       ) -> None:
        """The trial's process is gone, or something between it and here is wrong."""
        # Not by trial.get_pickled_error(), which looks in the storage, where it is not yet.
        path = Path(trial.pickled_error_file)
        error = pickle.loads(path.read_bytes()) if path.exists() else None
        if isinstance(error, RayActorError):
            if self.several:
                free_workers()
            self.searcher.lose(trial.config["id"], str(error))
        else:
            text = Path(trial.error_file).read_text().strip()
            log.warning("%s: %s", trial.config["id"], text)
            self.session.on_failure(trial.config["id"], text.splitlines()[-1])


@contextmanager
def running_ray(num_cpus: int, num_slots: int) -> Iterator[Callable[[], None]]:
    """A Ray of this study's own on this machine, quiet, gone afterwards.

    It starts in the background, so that data can be opened meanwhile; and after a moment, in which
    the data may turn out to be no good.

    Args:
        num_cpus: CPU cores that trials may occupy.
        num_slots: Trials of several workers at a time.

    Yields:
        What waits until Ray runs. It raises a ``ValueError`` if Ray does not start.
    """
    if ray.is_initialized():
        raise ValueError("a study starts a Ray of its own, and this process uses one already. "
                         "Call ray.shutdown() first.")
    os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = str(POLL_SECONDS)
    _remove_leftovers()
    scratch = Path(tempfile.mkdtemp(prefix=SCRATCH_PREFIX))
    over = threading.Event()

    def start() -> None:
        if not over.wait(GRACE_SECONDS):
            _start_ray(num_cpus, num_slots, scratch)

    with FileLock(scratch / "lock"), ThreadPoolExecutor(1) as background:
        started = background.submit(start)
        try:
            yield started.result
        finally:
            over.set()
            wait([started])
            ray.shutdown()
            _keep_output(scratch)
            shutil.rmtree(scratch, ignore_errors=True)


def _start_ray(num_cpus: int, num_slots: int, scratch: Path) -> None:
    try:
        ray.init(address="local", num_cpus=num_cpus, resources={SLOT: num_slots},
                 include_dashboard=False, object_store_memory=200_000_000,
                 logging_level=logging.ERROR, log_to_driver=False, _temp_dir=str(scratch))
    except Exception as error:
        raise ValueError(f"Ray does not start: {error}") from error
    # What its loggers say goes to the root logger, that is to the study's log.
    logger = logging.getLogger("ray")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    logger.propagate = True
    logger.setLevel(logging.WARNING)
    logging.getLogger("ray.tune.analysis").setLevel(logging.ERROR)  # misses files we don't want


def _remove_leftovers() -> None:
    """Removes Ray's files of studies that were killed: nobody holds their locks."""
    for folder in Path(tempfile.gettempdir()).glob(f"{SCRATCH_PREFIX}*"):
        try:
            if (folder / "lock").exists():
                with FileLock(folder / "lock", timeout=0):
                    shutil.rmtree(folder, ignore_errors=True)
        except (Timeout, OSError):  # in use, or another user's
            continue


def _keep_output(scratch: Path) -> None:
    """Copies what the trials' processes printed into the study's log."""
    for path in sorted(scratch.glob("session_latest/logs/worker-*")):
        lines = path.read_text(errors="replace").splitlines()
        actor = next((line for line in lines if line.startswith(ACTOR_NAME)), "")
        printed = [line for line in lines if line and not line.startswith(":")]
        if printed and actor.removeprefix(ACTOR_NAME) in PROCESSES:
            log.info("%s:\n%s", path.name, "\n".join(printed[-MAX_LINES:]))


def run(session: Session, resources: ResourcesConfig, concurrency: int, cache: Path,
        scratch: Path, interruption: Interruption) -> None:
    """Runs a session to its end or to an interruption.

    Args:
        session: The study.
        resources: What each of its trials occupies.
        concurrency: Trials at a time.
        cache: The folder that trials share.
        scratch: Where Ray may write what nobody reads; removed afterwards.
        interruption: Ends the run early.
    """
    send_no_keys()
    several = resources.workers > 1
    slots = [{"CPU": resources.cpus_per_worker, "GPU": resources.gpus_per_worker}]
    if several:  # the process that waits for the workers takes no CPU from them
        slots = [{"CPU": 0, SLOT: 1}]
    trainable = WorkersTrainable if several else TrialTrainable
    # Ask for as many trials as there is room for, not for one at a time.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(concurrency)
    shutil.rmtree(scratch, ignore_errors=True)
    searcher = SessionSearcher(session, cache, scratch, concurrency)
    tuner = tune.Tuner(
        tune.with_resources(trainable, tune.PlacementGroupFactory(slots)),
        tune_config=tune.TuneConfig(
            search_alg=searcher, scheduler=SessionScheduler(session, searcher), num_samples=-1,
            reuse_actors=True),
        run_config=tune.RunConfig(
            name="tune", storage_path=str(scratch.absolute()), verbose=0, stop=interruption,
            callbacks=[SessionCallback(session, searcher, several)],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False)))
    interruption.listen()  # Ray has taken SIGTERM
    try:
        tuner.fit()
    except Interrupted:
        log.info("interrupted")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def send_no_keys() -> None:
    """Keeps Tune from sending this process's keys along with trials.

    Ray writes what is sent into its logs; each machine has keys of its own.
    """
    sent = class_cache.ENV_VARS_TO_PROPAGATE
    sent.difference_update([name for name in sent if name.startswith("AWS_")])
