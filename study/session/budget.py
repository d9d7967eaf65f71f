"""Budgets of a search: trials, time and epochs, whichever is used up first.

Once a budget is used up, no trial is drawn any more. Live trials run to their end, so that every
figure comes from a whole trial, and final runs follow: a study exceeds its limit by one trial and
the final runs.
"""

import time
from collections.abc import Callable, Sequence

from study.config.study_config import StudyConfig, parse_duration
from study.session.ask_tell import Search
from trainables.training.report import Report
from trainables.trial_config import TrialConfig

LiveTrial = tuple[TrialConfig, Report | None]
"""The configuration of a live trial and its last report of training or test."""


class Budget:
    """The budget of a study's search.

    Time counts while the study runs, without interruptions; a killed study remembers it as of its
    last draw.

    Args:
        study: The limits.
        search: Stores what was used.
        clock: Seconds; only differences count.
    """

    def __init__(
        self, study: StudyConfig, search: Search, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.study = study
        self.search = search
        self.clock = clock
        self.started = clock() - search.get_attr("seconds", 0.0)
        self.limits = [study.num_trials, study.time_limit, study.epoch_limit]

    def allows(self, trained: float, live: Sequence[LiveTrial]) -> bool:
        """Return whether another trial may be drawn, now that live trials may use the budget up.

        Args:
            trained: Epochs of the search's ended trials.
            live: The search's live trials.
        """
        limit = self.study.epoch_limit
        promised = sum(map(_promised_epochs, live))
        return not self.is_used_up(trained, live) and (limit is None or trained + promised < limit)

    def is_used_up(self, trained: float, live: Sequence[LiveTrial]) -> bool:
        """Return whether no further trial will be drawn, whatever happens to live ones."""
        if self.search.num_asked() >= self.study.num_trials:
            return True
        if self.study.time_limit is None and self.study.epoch_limit is None:
            return False
        if self.search.get_attr("used up", None) == self.limits:
            return True
        done = trained + sum(report.epoch for _, report in live if report is not None)
        used_up = (
            self.study.time_limit is not None
            and self.clock() - self.started >= parse_duration(self.study.time_limit)
        ) or (self.study.epoch_limit is not None and done >= self.study.epoch_limit)
        if used_up:  # final runs may start, so this is final
            self.search.set_attr("used up", self.limits)
        return used_up

    def save_time(self) -> None:
        """Store the time used so far, in case the study is killed."""
        if self.study.time_limit is not None:
            self.search.set_attr("seconds", self.clock() - self.started)


def _promised_epochs(trial: LiveTrial) -> float:
    """Return the epochs that a trial will have trained at its end, as far as is known."""
    config, report = trial
    return report.num_epochs if report is not None else float(config.schedule.num_epochs or 0)
