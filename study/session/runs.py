"""The runs of a study: those that have ended, those that are live, and those still to start."""

from collections.abc import Sequence

from study.config.study_config import StudyConfig
from study.trials.records import RecordFile, TrialRecord
from study.trials.running_trial import RunningTrial, search_id
from trainables.training.selection import Metrics


class Runs:
    """Every run of a study, found by id, by trial or by task.

    Args:
        study: The study.
        file: Its records.
    """

    def __init__(self, study: StudyConfig, file: RecordFile) -> None:
        self.tasks = study.task_names
        self.is_joint = study.joint is not None
        self.file = file
        self.live: dict[str, RunningTrial] = {}
        """Handed out and not ended, by id."""
        self.queue: list[RunningTrial] = []
        """Drawn, or interrupted, and not handed out yet."""
        self.waiting: list[RunningTrial] = []
        """Drawn, with the configuration of a live run whose result they will share."""

    @property
    def records(self) -> list[TrialRecord]:
        """The ended runs, in the order in which they ended."""
        return list(self.file.records.values())

    def ids(self, number: int) -> list[str]:
        """Return the ids of a search trial's runs, one a task."""
        return [search_id(number, task if self.is_joint else None) for task in self.tasks]

    def of_trial(self, number: int) -> list[RunningTrial | TrialRecord]:
        """Return a search trial's runs that were handed out, ended or live."""
        found = (self.live.get(name) or self.file.records.get(name) for name in self.ids(number))
        return [run for run in found if run is not None]

    def siblings(self, run: RunningTrial) -> list[str]:
        """Return the ids of the live runs of the same trial on other tasks."""
        return [
            other.id
            for other in self.live.values()
            if other is not run and run.number is not None and other.number == run.number
        ]

    def evaluated(self, task: str) -> list[Metrics]:
        """Return the metrics of every evaluation of the search on a task."""
        runs: list[RunningTrial | TrialRecord] = [*self.records, *self.live.values()]
        return [
            evaluation.metrics
            for run in runs
            if run.stage == "search" and run.task == task
            for evaluation in run.evaluations
        ]

    def live_search(self) -> list[RunningTrial]:
        """Return the live runs of the search."""
        return [run for run in self.live.values() if run.stage == "search"]

    def live_conditions(self) -> set[str]:
        """Return the conditions that have a live run of the search."""
        return {run.condition for run in self.live_search()}

    def drop_trial(self, number: int | None) -> None:
        """Forget the runs of a trial that have not been handed out."""
        self.queue = [run for run in self.queue if run.number != number]
        self.waiting = [run for run in self.waiting if run.number != number]

    def release_waiting(self, identity: str) -> None:
        """Queue the runs that waited for one of their configuration."""
        released: Sequence[RunningTrial] = [r for r in self.waiting if r.identity == identity]
        self.waiting = [run for run in self.waiting if run not in released]
        self.queue += released
