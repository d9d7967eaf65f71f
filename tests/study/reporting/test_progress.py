"""What is seen while a study runs: lines without a terminal, a picture with one."""

import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from study.reporting import progress as display_module
from study.reporting.progress import Display
from study.trials.running_trial import RunningTrial
from tests.support.fake_trials import REASON, open_session, run_to_end, training_report
from tests.support.fake_trials import test_report_of as final_report
from trainables.training.report import Report

PLAIN = {"pruner": "none", "sampler": "random"}


class Clock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(display_module, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


class Shown:
    """A session, its display and what the display has printed."""

    def __init__(self, folder: Path, terminal: bool, **changes: object) -> None:
        self.console = Console(width=80, file=io.StringIO(), force_terminal=terminal, record=True)
        self.display = Display(self.console, "bnm", 2)
        self.session = open_session(folder, self.display, **{**PLAIN, **changes})
        self.display.session = self.session

    def start(self) -> RunningTrial:
        trial = self.session.next_trial()
        assert trial is not None
        return trial

    def report(self, trial: RunningTrial, evaluation: int, **changes: object) -> Report:
        report = replace(training_report(trial.config, evaluation), **changes)  # type: ignore[arg-type]
        self.session.on_report(trial.id, report)
        return report

    def printed(self) -> list[str]:
        """Lines since the last call."""
        return self.console.export_text().splitlines()

    def picture(self) -> list[str]:
        """Lines of the live picture."""
        self.printed()
        self.console.print(self.display.picture())
        return [line.rstrip() for line in self.printed()]


@pytest.fixture
def plain(tmp_path: Path, clock: Clock) -> Shown:
    return Shown(tmp_path, terminal=False)


@pytest.fixture
def terminal(tmp_path: Path, clock: Clock) -> Shown:
    return Shown(tmp_path, terminal=True)


# Lines


def test_a_line_says_when_who_and_what(plain: Shown, clock: Clock) -> None:
    clock.now += 83
    plain.start()
    assert plain.printed() == ["  1:23  0000 no_adaptation starts (search)"]


def test_a_report_is_a_line_of_epoch_criterion_and_source_accuracy(plain: Shown) -> None:
    trial = plain.start()
    plain.printed()
    plain.report(
        trial,
        2,
        metrics={
            "criterion/bnm": 0.12345,
            "source_val/accuracy": 0.9876,
            "criterion/oracle": 0.5,
            "loss/classification": 1.0,
        },
    )
    assert plain.printed() == [
        "  0:00  0000 no_adaptation 2/4  bnm 0.1235  source_val/accuracy 0.9876"
    ]


def test_of_an_average_of_ranks_the_rank_is_shown(tmp_path: Path, clock: Clock) -> None:
    plain = Shown(
        tmp_path, terminal=False, criterion={"rank_average": {"criteria": ["bnm", "snd"]}}
    )
    plain.display.criterion = "rank_average"
    trial = plain.start()
    plain.printed()
    plain.report(
        trial, 1, metrics={"criterion/bnm": 0.1, "criterion/snd": 2.0, "source_val/accuracy": 0.9}
    )
    assert plain.printed() == [
        "  0:00  0000 no_adaptation 1/4  rank_average 0.5000  source_val/accuracy 0.9000"
    ]


def test_pretraining_is_called_so(plain: Shown) -> None:
    trial = plain.start()
    plain.printed()
    plain.report(trial, 2, phase="pretraining", metrics={"source_val/accuracy": 0.5})
    assert plain.printed() == [
        "  0:00  0000 no_adaptation pre-training 2/4  source_val/accuracy 0.5000"
    ]


def test_the_test_s_line_shows_test_accuracies(plain: Shown) -> None:
    trial = plain.start()
    plain.report(trial, 4, finished=False)
    plain.printed()
    plain.session.on_report(trial.id, final_report(trial.config))
    assert plain.printed()[0] == "  0:00  0000 no_adaptation test 4/4  target_test/accuracy 0.7000"


def test_an_end_is_a_line_with_counts_and_time_left(plain: Shown, clock: Clock) -> None:
    trial, _ = plain.start(), plain.start()
    plain.report(trial, 4, finished=False)
    plain.printed()
    clock.now += 10
    plain.report(trial, 5, finished=True)
    assert plain.printed()[-1] == (
        "  0:10  0000 no_adaptation done  [1 running · 1 done · 0 pruned · 0 failed · "
        "about 2 min left]"
    )  # 11 to go, 10 s each


def test_trials_that_have_no_machine_are_counted(plain: Shown) -> None:
    plain.start()
    plain.start()
    plain.printed()
    plain.display.on_wait(1)
    plain.display.on_wait(0)
    assert plain.printed() == [
        "  0:00  2 running (1 without a machine yet) · 0 done · 0 pruned · 0 failed",
        "  0:00  2 running · 0 done · 0 pruned · 0 failed",
    ]


def test_a_failure_has_its_reason(plain: Shown) -> None:
    trial = plain.start()
    plain.session.on_failure(trial.id, REASON)
    assert plain.printed()[-1].startswith(f"  0:00  0000 no_adaptation failed: {REASON}  [")


def test_a_long_line_is_not_broken(plain: Shown) -> None:
    trial = plain.start()
    plain.session.on_failure(trial.id, "word " * 40)
    assert len(plain.printed()) == 2


def test_brackets_in_a_reason_are_no_markup(plain: Shown) -> None:
    trial = plain.start()
    plain.session.on_failure(trial.id, "got [1, 2] and [bold]")
    assert "got [1, 2] and [bold]" in plain.printed()[-1]


def test_without_a_terminal_there_is_no_live_picture(plain: Shown) -> None:
    with plain.display:
        assert not plain.display.live.is_started
    assert plain.printed() == []


def test_a_whole_study_reads_from_start_to_end(tmp_path: Path, clock: Clock) -> None:
    shown = Shown(tmp_path, False, pruner={"asha": {"reduction_factor": 2}}, sampler="tpe")
    records = run_to_end(shown.session)
    lines = shown.printed()
    words = {"complete": "done", "pruned": "pruned", "failed": "failed"}
    ends = [line for line in lines if "running ·" in line]
    assert len(ends) == len(records)
    for line, record in zip(ends, records, strict=True):
        assert f"{record.id} {record.method} {words[record.outcome]}" in line
    assert "nothing left" in ends[-1]


# Picture


def test_before_the_session_there_is_a_word_of_what_happens(clock: Clock) -> None:
    console = Console(width=80, file=io.StringIO(), force_terminal=True, record=True)
    console.print(Display(console, "bnm", 2).picture())
    assert console.export_text() == "Opening data and starting Ray …\n"


def test_the_picture_fits_80_columns(terminal: Shown) -> None:
    trial = terminal.start()
    terminal.report(trial, 1)
    terminal.start()
    lines = terminal.picture()
    assert max(len(line) for line in lines) <= 80 and not any("…" in line for line in lines)


def test_the_picture_counts_trials_without_a_machine(terminal: Shown) -> None:
    terminal.start()
    terminal.display.on_wait(1)
    assert terminal.printed() == []
    assert (
        terminal.picture()[1]
        == "1 running (1 without a machine yet) · 0 done · 0 pruned · 0 failed"
    )


def test_the_picture_counts_trials(terminal: Shown) -> None:
    done, failed, _ = terminal.start(), terminal.start(), terminal.start()
    terminal.report(done, 1, finished=True)
    terminal.session.on_failure(failed.id, REASON)
    lines = terminal.picture()
    assert "2 of 12 trials" in lines[0]  # 10, and 2 final runs of the one method so far
    assert lines[1] == "1 running · 1 done · 0 pruned · 1 failed"


def test_the_picture_shows_the_best_that_did_not_fail(terminal: Shown) -> None:
    for value, fails in ((0.25, False), (0.5, False), (0.9, True)):
        trial = terminal.start()
        terminal.report(trial, 1, objective=value, finished=not fails)
        if fails:
            terminal.session.on_failure(trial.id, REASON)
    assert terminal.picture()[2] == "Best bnm so far: 0.5000 (dann, trial 0001)"


def test_before_a_trial_has_ended_the_picture_says_what_is_maximised(terminal: Shown) -> None:
    assert terminal.picture()[2] == "Maximising bnm."


def test_the_picture_has_a_line_for_each_running_trial(terminal: Shown) -> None:
    first, _ = terminal.start(), terminal.start()
    terminal.report(
        first, 2, seconds=12.6, metrics={"criterion/bnm": 0.12345, "source_val/accuracy": 0.98765}
    )
    rows = [" ".join(line.split()) for line in terminal.picture()[3:]]
    assert rows == [
        "trial condition epoch bnm source acc. seconds",
        "0000 no_adaptation 2/4 0.1235 98.8 % 13",
        "0001 dann starting",
    ]


def test_a_trial_that_pretrains_shows_no_criterion(terminal: Shown) -> None:
    trial = terminal.start()
    terminal.report(
        trial, 1, phase="pretraining", metrics={"criterion/bnm": 0.5, "source_val/accuracy": 0.5}
    )
    assert (
        " ".join(terminal.picture()[-1].split()) == "0000 no_adaptation pre-training 1/4 50.0 % 2"
    )


def test_the_time_left_goes_by_trials_that_ended_here(terminal: Shown, clock: Clock) -> None:
    assert "time left unknown" in terminal.picture()[0]
    clock.now += 30
    terminal.report(terminal.start(), 1, finished=True)
    # 12 trials are planned (10, and 2 final runs), one took 30 s
    assert "about 6 min left" in terminal.picture()[0]


def test_on_a_terminal_only_failures_are_printed(terminal: Shown) -> None:
    done, failed = terminal.start(), terminal.start()
    terminal.report(done, 1, finished=True)
    terminal.session.on_failure(failed.id, "loss is nan")
    assert terminal.printed() == ["0001 dann failed: loss is nan"]


def test_the_live_picture_leaves_the_terminal_as_it_was(terminal: Shown) -> None:
    with terminal.display:
        assert terminal.display.live.is_started
    assert not terminal.display.live.is_started


def test_the_live_picture_ends_with_an_error_too(terminal: Shown) -> None:
    with pytest.raises(KeyError), terminal.display:
        raise KeyError
    assert not terminal.display.live.is_started
