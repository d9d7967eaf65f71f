"""Runs a session on Ray Tune.

Tune places trials and delivers their reports. The session decides what to run, what to stop and
what to record.

Tune's own snapshots of an experiment are not used. They would be a second state that can
contradict the records, they contain all trials each time, and they exist only where Tune's
storage does. A resumed study starts a new Tune run from the records, and each trial resumes from
its own folder.
"""

import study.execution.ray_settings  # noqa: F401 - before Ray

# isort: split
import logging
import os
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayActorError
from ray.tune.execution import class_cache
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.util import placement_group_table

from study.execution.interruption import GracefulShutdown, Interrupted
from study.execution.placement import worker_resources
from study.session.session import Session
from study.trials.running_trial import RunningTrial
from trainables.ray_trainable import (
    TrialSpec,
    TrialTrainable,
    WorkersTrainable,
    free_workers,
    report_of,
)
from trainables.trial_config import SLOT, ResourcesConfig

log = logging.getLogger(__name__)

POLL_INTERVAL_SECONDS = 5.0
"""Seconds between queries for trials that wait for resources."""


class _NotInSnapshots:
    """A part of a Tune run that its snapshots omit: the state is in the study's own files."""

    def __getstate__(self) -> dict[str, object]:
        return {}


class PendingMonitor:
    """Reports how many trials wait for machines.

    A number counts once two queries in a row return it: between trials, a placement group is
    pending for a moment without waiting for anything.

    Args:
        tell: Called with each new number.
    """

    def __init__(self, tell: Callable[[int], None]) -> None:
        self.tell = tell
        self.told = self.seen = 0
        self.next_poll = time.monotonic() + POLL_INTERVAL_SECONDS

    def poll(self) -> None:
        """Query Ray if the interval has passed since the last query."""
        if time.monotonic() < self.next_poll:
            return
        own = ray.get_runtime_context().get_job_id()  # a cluster also lists groups of others
        count = sum(
            group["state"] in ("PENDING", "RESCHEDULING")
            for key, group in placement_group_table().items()
            if key.endswith(own)
        )
        if count == self.seen != self.told:
            self.told = count
            self.tell(count)
        self.seen = count
        self.next_poll = time.monotonic() + POLL_INTERVAL_SECONDS


class SessionSearcher(_NotInSnapshots, Searcher):
    """Passes the session's trials to Tune, again if they have lost a worker.

    Tune's own retries (``max_failures``) are not used: they miss workers that are lost between
    trials.
    """

    def __init__(self, session: Session, cache: Path, scratch: Path, concurrency: int) -> None:
        super().__init__()
        self.session = session
        self.cache = cache
        self.scratch = scratch
        self.concurrency = concurrency
        self.lost: list[RunningTrial] = []

    def suggest(  # type: ignore[override]
        self, trial_id: str
    ) -> dict[str, Any] | str | None:
        """Return the next trial, ``None`` if there is none now, or ``FINISHED``."""
        if self.session.is_over:
            return str(Searcher.FINISHED)
        self.lost = [trial for trial in self.lost if trial.id in self.session.live]
        trial = self.lost.pop(0) if self.lost else self._next()
        if trial is None:
            return None
        return dict(self._spec(trial))

    def _spec(self, trial: RunningTrial) -> TrialSpec:
        study_folder = self.session.study_folder
        return TrialSpec(
            id=trial.id,
            attempt=trial.restarts,
            trial=trial.config.model_dump(mode="json"),
            folder=str(study_folder.working_folder(trial.id).absolute()),
            cache=str(self.cache.absolute()),
            scratch=str(self.scratch.absolute()),
            store=str(study_folder.store / "trials" / trial.id) if study_folder.store else None,
            shared_store=str(study_folder.store.parent / "cache") if study_folder.store else None,
        )

    def _next(self) -> RunningTrial | None:
        if len(self.session.live) >= self.concurrency:
            return None
        return self.session.next_trial()

    def lose(self, trial_id: str, cause: str) -> None:
        """Queue a trial that has lost a worker, or fail it if that has happened too often."""
        trial = self.session.live.get(trial_id)
        if trial is None:
            return
        log.warning("%s lost a worker: %s", trial_id, cause)
        if trial.restarts >= self.session.study.max_restarts:
            times = f"{trial.restarts + 1} times" if trial.restarts else "once"
            self.session.on_failure(trial_id, f"a worker was lost {times}; see the log")
        else:
            self.session.on_restart(trial_id)
            self.lost.append(trial)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Do nothing: the scheduler has told the session already."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the records are the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the records are the state."""


class SessionScheduler(_NotInSnapshots, FIFOScheduler):
    """Passes results to the session, and its decisions to Tune."""

    def __init__(self, session: Session, searcher: SessionSearcher) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.session = session
        self.searcher = searcher

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Return the pending trial that was drawn first.

        Tune's own choice searches all trials, which takes longer with every one that has ended.
        """
        waiting = [
            trial for trial in tune_controller.get_live_trials() if trial.status == Trial.PENDING
        ]
        return min(
            waiting, key=lambda trial: (len(trial.config["id"]), trial.config["id"]), default=None
        )

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Pass a result to the session; return whether the trial stops."""
        return str(TrialScheduler.STOP if self._take(trial, result) else TrialScheduler.CONTINUE)

    def on_trial_complete(
        self, tune_controller: Any, trial: Trial, result: dict[str, Any]
    ) -> None:
        """Pass the last result of a trial that ended by itself to the session."""
        self._take(trial, result)

    def _take(self, trial: Trial, result: dict[str, Any]) -> bool:
        """Pass a result to the session; return whether the trial has ended."""
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


class SessionStopper(_NotInSnapshots, tune.Stopper):
    """Ends a Tune run that is interrupted."""

    def __init__(self, interruption: GracefulShutdown) -> None:
        self.interruption = interruption

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Return ``False``: the scheduler stops single trials."""
        return False

    def stop_all(self) -> bool:
        """Raise if the study is interrupted; Tune calls this between events.

        Returning ``True`` instead would make Tune wait for the workers. That is not needed: their
        checkpoints are written atomically.
        """
        self.interruption.check()
        return False


class SessionCallback(_NotInSnapshots, tune.Callback):
    """Tells the searcher and the session about trials whose process has failed."""

    def __init__(self, session: Session, searcher: SessionSearcher, several: bool) -> None:
        self.session = session
        self.searcher = searcher
        self.several = several

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Restart the trial if its process was lost; fail it after any other error.

        Errors of the training itself do not come here: the trainable reports them as results.
        """
        # trial.get_pickled_error() reads from the storage, to which Tune copies the file later.
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


def run(
    session: Session,
    resources: ResourcesConfig,
    concurrency: int,
    cache: Path,
    scratch: Path,
    interruption: GracefulShutdown,
) -> None:
    """Run a session until it is over or interrupted.

    Args:
        session: The study.
        resources: Resources of each trial.
        concurrency: Maximum number of trials at a time.
        cache: Folder that trials share.
        scratch: Folder for files that only Tune needs; removed at the end.
        interruption: Ends the run early.
    """
    send_no_keys()
    several = resources.workers > 1
    slots = [worker_resources(resources)]
    if several:
        # This placement group is for the process that waits for the workers, which are in a group
        # of their own. It occupies a slot in place of a CPU: it must not take a CPU from workers,
        # and where slots are on the head alone, losing another machine does not end it.
        slots = [{"CPU": 0, SLOT: 1}]
    trainable = WorkersTrainable if several else TrialTrainable
    # Tune requests placement groups one at a time by default. The autoscaler would then add one
    # machine after the other, where it can start all of them at the same time.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(concurrency)
    shutil.rmtree(scratch, ignore_errors=True)
    searcher = SessionSearcher(session, cache, scratch, concurrency)
    tuner = tune.Tuner(
        tune.with_resources(trainable, tune.PlacementGroupFactory(slots)),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=SessionScheduler(session, searcher),
            num_samples=-1,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(scratch.absolute()),
            verbose=0,
            stop=SessionStopper(interruption),
            callbacks=[SessionCallback(session, searcher, several)],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    interruption.listen()  # ray.init() has replaced the handler of SIGTERM
    try:
        tuner.fit()
    except Interrupted:
        log.info("interrupted")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def send_no_keys() -> None:
    """Stop Tune from sending AWS keys in this process's environment to trials.

    Ray writes the environment of an actor to its logs. Each machine has credentials of its own.
    """
    sent = class_cache.ENV_VARS_TO_PROPAGATE
    sent.difference_update([name for name in sent if name.startswith("AWS_")])
