"""A session under Ray Tune: its trials become Tune's, its decisions Tune's scheduling.

Tune places trials and carries reports; what to run, what to stop and what is written down are the
session's. Tune's own experiment state is not used: a resumed study starts a new Tune run from the
records, and each trial goes on from its own folder.
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
from study.execution.placement import worker_of
from study.session.session import Session
from study.trials.running_trial import RunningTrial
from trainables.config import SLOT, ResourcesConfig
from trainables.ray_trainable import (
    TrialSpec,
    TrialTrainable,
    WorkersTrainable,
    free_workers,
    report_of,
)

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""Between looks at which trials have a place."""


class _LeftOut:
    """Of Tune's snapshots, which nobody reads: the state is in the session's own files."""

    def __getstate__(self) -> dict[str, object]:
        return {}


class PendingMonitor:
    """Tells how many trials wait for machines, as soon as two looks have found the same.

    Args:
        tell: Called with each new number.
    """

    def __init__(self, tell: Callable[[int], None]) -> None:
        self.tell = tell
        self.told = self.seen = 0
        self.next_look = time.monotonic() + LOOK_SECONDS

    def poll(self) -> None:
        """Looks, if it is time to."""
        if time.monotonic() < self.next_look:
            return
        own = ray.get_runtime_context().get_job_id()  # a cluster has those of others too
        count = sum(
            group["state"] in ("PENDING", "RESCHEDULING")
            for key, group in placement_group_table().items()
            if key.endswith(own)
        )
        if count == self.seen != self.told:
            self.told = count
            self.tell(count)
        self.seen = count
        self.next_look = time.monotonic() + LOOK_SECONDS


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
        self.again: list[RunningTrial] = []

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

    def _assignment(self, trial: RunningTrial) -> TrialSpec:
        study_folder = self.session.study_folder
        return TrialSpec(
            id=trial.id,
            attempt=trial.restarts,
            trial=trial.config.model_dump(mode="json"),
            folder=str(study_folder.workplace(trial.id).absolute()),
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

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
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

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """The trial that waits and was drawn first; Tune would look among all that have ended."""
        waiting = [
            trial for trial in tune_controller.get_live_trials() if trial.status == Trial.PENDING
        ]
        return min(
            waiting, key=lambda trial: (len(trial.config["id"]), trial.config["id"]), default=None
        )

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Stops the trial if the session says so."""
        return str(TrialScheduler.STOP if self._take(trial, result) else TrialScheduler.CONTINUE)

    def on_trial_complete(
        self, tune_controller: Any, trial: Trial, result: dict[str, Any]
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


class SessionStopper(_LeftOut, tune.Stopper):
    """Ends the run where it is interrupted."""

    def __init__(self, interruption: GracefulShutdown) -> None:
        self.interruption = interruption

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Stops no single trial."""
        return False

    def stop_all(self) -> bool:
        """Asked by Tune between events; waits for no worker, whose files are whole anyway."""
        self.interruption.check()
        return False


class SessionCallback(_LeftOut, tune.Callback):
    """Tells the searcher of processes that are gone."""

    def __init__(self, session: Session, searcher: SessionSearcher, several: bool) -> None:
        self.session = session
        self.searcher = searcher
        self.several = several

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
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


def run(
    session: Session,
    resources: ResourcesConfig,
    concurrency: int,
    cache: Path,
    scratch: Path,
    interruption: GracefulShutdown,
) -> None:
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
    slots = [worker_of(resources)]
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
