"""The driver's work per trial does not grow with the number of earlier trials."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from optuna.storages import JournalStorage
from rich.console import Console

import study
from study.reporting.progress import Display
from study.session.session import Session
from tests.support.fake_trials import NUM_EVALUATIONS, open_session, training_report

OWN = str(Path(study.__file__).parent)


class Work:
    """Work done inside :meth:`counted`."""

    def __init__(self) -> None:
        self.lines = 0
        """Executed lines of ``study``; each iteration of a loop or comprehension counts."""
        self.reads = 0
        """Reads of all trials from Optuna's storage."""

    @contextmanager
    def counted(self) -> Iterator[None]:
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            yield
        finally:
            sys.settrace(before)

    def _enter(self, frame: FrameType, event: str, argument: object) -> Any:
        self.reads += frame.f_code is JournalStorage.get_all_trials.__code__
        return self._count if frame.f_code.co_filename.startswith(OWN) else None

    def _count(self, frame: FrameType, event: str, argument: object) -> Any:
        self.lines += event == "line"
        return self._count


def run_trials(session: Session, count: int) -> Work:
    """Run whole trials with equal scores, so that none is pruned."""
    work = Work()
    for _ in range(count):
        with work.counted():
            assert not session.is_over
            trial = session.next_trial()
            assert trial is not None
        for evaluation in range(1, NUM_EVALUATIONS + 1):
            report = replace(
                training_report(trial.config, evaluation),
                objective=0.5,
                finished=evaluation == NUM_EVALUATIONS,
            )
            with work.counted():
                session.on_report(trial.id, report)
    return work


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"pruner": "none"},
        {"pruner": "asha"},
        {"pruner": "hyperband"},
        {"pruner": "median"},
        {"epoch_limit": 10000},
    ],
    ids=str,
)
def test_the_hundredth_trial_is_as_much_work_as_the_tenth(
    tmp_path: Path,
    changes: dict[str, object],
) -> None:
    display = Display(Console(file=io.StringIO()), "bnm", 1)
    session = open_session(tmp_path, display, sampler="random", num_trials=200, **changes)
    display.session = session
    run_trials(session, 6)
    early = run_trials(session, 10)
    run_trials(session, 80)
    late = run_trials(session, 10)
    assert late.lines < 1.05 * early.lines
    assert late.reads == early.reads == 10  # a draw's: Optuna looks for what is queued
