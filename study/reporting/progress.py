"""The progress display of a running study, and its log."""

import logging
import time

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from typing_extensions import override

from study.session.session import Observer, Session
from study.trials.records import Outcome, TrialRecord
from study.trials.running_trial import RunningTrial
from trainables.training.report import CRITERION_PREFIX, SOURCE_ACCURACY, Report

log = logging.getLogger(__name__)

WORDS: dict[Outcome, str] = {"complete": "done", "pruned": "pruned", "failed": "failed"}
"""Words for outcomes in the display."""


class Display(Observer):
    """Shows a session's progress.

    Args:
        console: The console to print to: a live display on a terminal, otherwise plain lines.
        criterion: The name of the objective.
        concurrency: The number of trials that run at the same time.
    """

    def __init__(self, console: Console, criterion: str, concurrency: int) -> None:
        self.console = console
        self.criterion = criterion
        self.concurrency = concurrency
        self.session: Session | None = None
        self.started = time.monotonic()
        self.ended_here = 0
        self.num_waiting = 0
        self.live = Live(
            get_renderable=self.picture, console=console, refresh_per_second=4, transient=True
        )

    def __enter__(self) -> "Display":
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.live.stop()

    # Observer

    @override
    def on_start(self, trial: RunningTrial) -> None:
        if not self.console.is_terminal:
            self._say(f"{trial.id} {trial.condition} starts ({trial.stage})")

    @override
    def on_report(self, trial: RunningTrial, report: Report) -> None:
        if not self.console.is_terminal:
            self._say(f"{trial.id} {trial.condition} {_epoch(report)}  {self._scores(report)}")

    @override
    def on_end(self, trial: RunningTrial, record: TrialRecord) -> None:
        self.ended_here += 1
        reason = f": {record.reason}" if record.reason else ""
        if record.same_as:
            reason = f": the same configuration as {record.same_as}, whose record is used"
        if self.console.is_terminal:
            if record.outcome == "failed":
                self.live.console.print(
                    f"{record.id} {record.condition} failed{reason}", style="red", markup=False
                )
            return
        counts = self._counts()
        self._say(
            f"{record.id} {record.condition} {WORDS[record.outcome]}{reason}  "
            f"[{counts} · {self._time_left()}]"
        )

    def on_wait(self, count: int) -> None:
        """Show how many of the trials that were handed out are waiting for a machine."""
        self.num_waiting = count
        if not self.console.is_terminal:
            self._say(self._counts())

    def _say(self, line: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self.started), 60)
        self.console.print(
            f"{minutes:3d}:{seconds:02d}  {line}", markup=False, highlight=False, soft_wrap=True
        )

    # Picture

    def picture(self) -> RenderableType:
        """Return the current state of the session."""
        session = self.session
        if session is None:
            return Text("Opening data and starting Ray …")
        ended, planned = session.file.outcomes.total(), session.num_planned()
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            ProgressBar(total=planned, completed=ended, width=40),
            f"{ended} of {planned} trials",
            self._time_left(),
        )
        return Group(bar, Text(self._counts()), Text(self._best()), self._running(session))

    def _counts(self) -> str:
        assert self.session is not None
        outcomes = self.session.file.outcomes
        running = f"{len(self.session.live)} running"
        if self.num_waiting:
            running += f" ({self.num_waiting} without a machine yet)"
        return " · ".join([running, *(f"{outcomes[o]} {word}" for o, word in WORDS.items())])

    def _best(self) -> str:
        assert self.session is not None
        search = [
            r
            for r in self.session.records
            if r.stage == "search" and r.objective is not None and r.outcome != "failed"
        ]
        if not search:
            return f"Maximising {self.criterion}."
        best = max(search, key=lambda record: record.objective or 0.0)
        return (
            f"Best {self.criterion} so far: {best.objective:.4f} "
            f"({best.condition}, trial {best.id})"
        )

    def _time_left(self) -> str:
        assert self.session is not None
        if not self.ended_here:
            return "time left unknown"
        elapsed = time.monotonic() - self.started
        remaining = self.session.num_planned() - self.session.file.outcomes.total()
        seconds = elapsed / self.ended_here * remaining
        return f"about {_duration(seconds)} left" if remaining else "nothing left"

    def _running(self, session: Session) -> Table:
        table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
        for heading in ("trial", "condition", "epoch", self.criterion, "source acc.", "seconds"):
            table.add_column(heading, no_wrap=True)
        for trial in session.live.values():
            report = trial.latest
            if report is None:
                table.add_row(trial.id, trial.condition, "starting")
                continue
            accuracy = report.metrics.get(SOURCE_ACCURACY)
            score = self._shown(report).get(self.criterion)
            table.add_row(
                trial.id,
                trial.condition,
                _epoch(report),
                f"{score:.4f}" if score is not None else "",
                f"{100 * accuracy:.1f} %" if accuracy is not None else "",
                f"{report.seconds:.0f}",
            )
        return table

    def _scores(self, report: Report) -> str:
        return "  ".join(f"{name} {value:.4f}" for name, value in self._shown(report).items())

    def _shown(self, report: Report) -> dict[str, float]:
        """Return a report's main figures; for an average of ranks, that of the kept checkpoint."""
        if report.phase == "test":
            return {
                name: value
                for name, value in report.metrics.items()
                if name.endswith("/accuracy") and name.count("/") == 1
            }
        accuracy = report.metrics.get(SOURCE_ACCURACY)
        shown = {} if accuracy is None else {SOURCE_ACCURACY: accuracy}
        if report.phase == "pretraining":
            return shown
        score = report.metrics.get(f"{CRITERION_PREFIX}{self.criterion}", report.objective)
        return {self.criterion: score, **shown}


def _epoch(report: Report) -> str:
    word = {"pretraining": "pre-training ", "training": "", "test": "test "}[report.phase]
    return f"{word}{report.epoch:.3g}/{report.num_epochs:.3g}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


class LogBook(Observer):
    """Writes starts and ends of trials to the study's log."""

    @override
    def on_start(self, trial: RunningTrial) -> None:
        values = ", ".join(f"{name} = {value}" for name, value in trial.params.items())
        log.info("%s %s starts (%s): %s", trial.id, trial.condition, trial.stage, values)

    @override
    def on_report(self, trial: RunningTrial, report: Report) -> None:
        return

    @override
    def on_end(self, trial: RunningTrial, record: TrialRecord) -> None:
        log.info(
            "%s %s%s: %s",
            record.id,
            WORDS[record.outcome],
            f" (the record of {record.same_as})" if record.same_as else "",
            record.reason or f"{record.objective:.4f} at evaluation {record.best_evaluation}",
        )
