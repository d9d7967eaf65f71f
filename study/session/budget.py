"""How long a search may go on: by trials, by time, by epochs, whichever ends first.

When a budget is used up, no trial is drawn any more. Those under way run to their end, so that
every figure is of a whole trial, and final runs follow: a study takes longer than its limit by a
trial and the final runs.
"""

import time
from collections.abc import Callable, Sequence

from study.config.study_config import StudyConfig, parse_duration
from study.session.ask_tell import Search
from trainables.config import TrialConfig
from trainables.training.report import Report

LiveTrial = tuple[TrialConfig, Report | None]
"""A trial and its last report of training or test."""


class Budget:
    """What a study's search has left.

    Time is that in which the study runs, interruptions left out; a killed study remembers it as of
    its last draw.

    Args:
        study: The limits.
        search: Where it is noted what was used.
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
        """Whether another trial may be drawn; those under way may still come to use it up.

        Args:
            trained: Epochs of the search's trials that have ended.
            live: Those of its trials that are under way.
        """
        limit = self.study.epoch_limit
        promised = sum(map(_promised_epochs, live))
        return not self.is_used_up(trained, live) and (limit is None or trained + promised < limit)

    def is_used_up(self, trained: float, live: Sequence[LiveTrial]) -> bool:
        """Whether no trial will be drawn any more, whatever becomes of those under way."""
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
        if used_up:  # final runs may start: there is no way back
            self.search.set_attr("used up", self.limits)
        return used_up

    def save_time(self) -> None:
        """Keeps the time in the search's storage, for when the study is killed."""
        if self.study.time_limit is not None:
            self.search.set_attr("seconds", self.clock() - self.started)


def _promised_epochs(trial: LiveTrial) -> float:
    """What a trial will have trained at its end, as far as it is known."""
    config, report = trial
    return report.num_epochs if report is not None else float(config.schedule.num_epochs or 0)
