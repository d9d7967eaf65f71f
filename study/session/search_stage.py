"""The first stage of a study: trials are drawn until the budget is used up.

A configuration runs once. A trial that equals one that has ended, here or in another study, takes
over its figures; one that equals a live trial waits for it.
"""

from collections.abc import Callable

from study.config.study_config import StudyConfig
from study.session.ask_tell import Search, Suggestion
from study.session.budget import Budget, LiveTrial
from study.session.runs import Runs
from study.trials.records import TrialRecord
from study.trials.running_trial import RunningTrial
from study.trials.shared_records import SharedRecords


class SearchStage:
    """Draws trials and turns each into its runs.

    Args:
        study: The study.
        search: Optuna's side of it.
        runs: The study's runs.
        budget: What the search may use.
        shared: Records of other studies that may be taken over.
        take_over: Ends a run with the figures of an equal one.
    """

    def __init__(
        self,
        study: StudyConfig,
        search: Search,
        runs: Runs,
        budget: Budget,
        shared: SharedRecords | None,
        take_over: Callable[[RunningTrial, TrialRecord], None],
    ) -> None:
        self.study = study
        self.search = search
        self.runs = runs
        self.budget = budget
        self.shared = shared
        self.take_over = take_over

    def next_run(self) -> RunningTrial | None:
        """Return the next run of the search; ``None`` if none can start now."""
        run = self._next_queued()
        while run is None and self.budget.allows(*self._used()):
            self.budget.save_time()
            self.runs.queue += self.runs_of(self.search.ask())
            run = self._next_queued()
        return run

    @property
    def is_over(self) -> bool:
        """Whether no further trial will be drawn."""
        return self.budget.is_used_up(*self._used())

    def num_to_draw(self) -> int:
        """Return how many trials are still to be drawn, as far as is known."""
        return 0 if self.is_over else max(self.study.num_trials - self.search.num_asked(), 0)

    def runs_of(self, suggestion: Suggestion) -> list[RunningTrial]:
        """Return the runs of a trial that was drawn, one a task."""
        number, params = suggestion.number, suggestion.params
        condition = self.search.conditions.name(params)
        return [
            RunningTrial(name, "search", condition, run.config, params, number, run.written)
            for name, run in zip(
                self.runs.ids(number), self.study.on_each_task(suggestion.config), strict=True
            )
        ]

    def _used(self) -> tuple[float, list[LiveTrial]]:
        """Return the epochs of ended trials, and the live trials."""
        return (
            self.runs.file.epochs,
            [
                (run.config, run.reports[-1] if run.reports else None)
                for run in self.runs.live_search()
            ],
        )

    def _next_queued(self) -> RunningTrial | None:
        while self.runs.queue:
            run = self.runs.queue.pop(0)
            equal = self._ended_equal(run.identity)
            if equal is not None:
                self.take_over(run, equal)
            elif any(other.identity == run.identity for other in self.runs.live.values()):
                self.runs.waiting.append(run)
            else:
                return run
        return None

    def _ended_equal(self, identity: str) -> TrialRecord | None:
        """Return a record of this configuration, of this study or another."""
        if identity in self.runs.file.by_identity:
            return self.runs.file.by_identity[identity]
        if self.study.cost is not None:  # another study's was measured under another load
            return None
        return self.shared.find(identity) if self.shared is not None else None
