"""A session under Ray Tune: its trials become Tune's, its decisions Tune's scheduling.

Tune places trials and carries reports; what to run, what to stop and what is written down are the
session's. Tune's own experiment state is not used: a resumed study starts a new Tune run from the
records, and each trial goes on from its own folder.
"""

import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from study.session import Session
from trainables.config import ResourcesConfig
from trainables.ray_trainable import Assignment, TrialTrainable, report_of
from trainables.ray_trainable import run_with_workers


QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
"""Environment that keeps Ray and Tune from what the study does itself, or not at all."""


class _LeftOut:
    """Of Tune's snapshots, which nobody reads: the state is in the session's own files."""

    def __getstate__(self) -> dict[str, object]:
        return {}


class Interruption(tune.Stopper):
    """Ends the run at the first Ctrl-C or SIGTERM; the trials can go on later."""

    def __init__(self) -> None:
        self.requested = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Takes the signals over; a second one is as if they had not been."""
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def request(number: int, frame: FrameType | None) -> None:
            self.requested = True
            for each, handler in before.items():
                signal.signal(each, handler)

        for number in before:
            signal.signal(number, request)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Stops no single trial."""
        return False

    def stop_all(self) -> bool:
        """Whether a signal came."""
        return self.requested


class SessionSearcher(_LeftOut, Searcher):
    """Hands the session's trials to Tune."""

    def __init__(self, session: Session, cache: Path, concurrency: int) -> None:
        super().__init__()
        self.session = session
        self.cache = cache
        self.concurrency = concurrency

    def suggest(  # type: ignore[override]
        self, trial_id: str
    ) -> dict[str, Any] | str | None:
        """The next trial, ``None`` for not now, or that it is over."""
        if self.session.is_over:
            return str(Searcher.FINISHED)
        if len(self.session.live) >= self.concurrency:
            return None
        trial = self.session.next_trial()
        if trial is None:
            return None
        assignment = Assignment(
            id=trial.id, trial=trial.config.model_dump(mode="json"),
            folder=str(self.session.layout.trial(trial.id).absolute()),
            cache=str(self.cache.absolute()), max_restarts=self.session.study.max_restarts)
        return dict(assignment)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None,
                          error: bool = False) -> None:
        """Nothing: the session knew before Tune did."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the records are the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the records are the state."""


class SessionScheduler(_LeftOut, FIFOScheduler):
    """Brings reports to the session and its decisions to Tune."""

    def __init__(self, session: Session) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.session = session

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Stops the trial if the session says so."""
        return str(TrialScheduler.STOP if self._take(trial, result) else TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]
                          ) -> None:
        """Takes the last report of a trial that ended by itself."""
        self._take(trial, result)

    def _take(self, trial: Trial, result: dict[str, Any]) -> bool:
        trial_id = trial.config["id"]
        if "failed" in result:
            self.session.on_failure(trial_id, result["failed"])
            return True
        report = report_of(result)
        return report is not None and self.session.on_report(trial_id, report)


class SessionCallback(_LeftOut, tune.Callback):
    """Tells the session of lost workers."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
                         ) -> None:
        """The worker was lost and the trial starts again from its checkpoint."""
        self.session.on_restart(trial.config["id"])

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
                       ) -> None:
        """The worker was lost once too often."""
        lines = str(trial.get_error() or "the worker was lost").strip().splitlines()
        self.session.on_failure(trial.config["id"], lines[-1])


@contextmanager
def running_ray(num_cpus: int, num_slots: int) -> Iterator[None]:
    """A Ray of this study's own on this machine, quiet, gone afterwards.

    Args:
        num_cpus: CPU cores that trials may occupy.
        num_slots: Trials of several workers at a time.

    Raises:
        ValueError: Ray does not start.
    """
    os.environ.update(QUIET)
    scratch = tempfile.mkdtemp(prefix="s2r-")
    try:
        ray.init(address="local", num_cpus=num_cpus, resources={"trial_slot": num_slots},
                 include_dashboard=False, object_store_memory=200_000_000,
                 logging_level=logging.ERROR, log_to_driver=False,
                 _temp_dir=scratch)
    except Exception as error:
        raise ValueError(f"Ray does not start: {error}") from error
    _log_quietly()
    try:
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(scratch, ignore_errors=True)


def _log_quietly() -> None:
    """Sends what Ray's loggers say to the root logger, that is to the study's log."""
    logger = logging.getLogger("ray")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    logger.propagate = True


def run(session: Session, resources: ResourcesConfig, concurrency: int, cache: Path,
        scratch: Path, interruption: Interruption) -> None:
    """Runs a session to its end or to an interruption.

    Args:
        session: The study.
        resources: What each of its trials occupies.
        concurrency: Trials at a time.
        cache: The folder that trials share.
        scratch: Where Tune may write what nobody reads.
        interruption: Ends the run early.
    """
    several = resources.workers > 1
    slots = [{"CPU": resources.cpus_per_worker, "GPU": resources.gpus_per_worker}]
    if several:  # the driver of a TorchTrainer only waits for its workers
        slots = [{"CPU": 0, "trial_slot": 1}]
    trainable = run_with_workers if several else TrialTrainable
    restarts = 0 if several else session.study.max_restarts
    tuner = tune.Tuner(
        tune.with_resources(trainable, tune.PlacementGroupFactory(slots)),
        tune_config=tune.TuneConfig(
            search_alg=SessionSearcher(session, cache, concurrency),
            scheduler=SessionScheduler(session), num_samples=-1, reuse_actors=not several),
        run_config=tune.RunConfig(
            name="tune", storage_path=str(scratch.absolute()), verbose=0, stop=interruption,
            callbacks=[SessionCallback(session)],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=restarts)))
    # Ask for as many trials as there is room for, not for one at a time.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(concurrency)
    with interruption.listening():
        tuner.fit()
