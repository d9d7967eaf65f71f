"""Measures what a trial costs the study's own process, early and late in a large study.

python -m benchmarks.scale [--trials N] [--sampler random|tpe] [--concurrency N]
    [--alone | --snapshots] [--space NAME|FILE]

Everything but the training is real: Ray Tune, Optuna's journal, records, TensorBoard, the log and
the display's lines. A trial is a report with 13 figures for each epoch, made up, at once, in a
process of Tune's: three reports in the benchmark's own space, fewer where ASHA stops the trial.
``--alone`` leaves Ray out, which leaves what the study itself costs. ``--snapshots`` lets Tune
write snapshots of its own state as often as it does by itself, and says how large they are; a
study, which needs none, has it write one an hour. Figures are of the study's process: its
processor time (all threads) and resident memory, without those of Ray's and of the trials'
processes. They are printed window by window, and those of a run that is ended by Ctrl-C or SIGTERM
hold as far as they go.
"""

import argparse
import io
import json
import logging
import os
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from rich.console import Console

import study.execution.tuner
from study.config.reading import read_studies
from study.config.study_config import StudyConfig
from study.execution.interruption import GracefulShutdown
from study.execution.local_ray import own_ray
from study.reporting.progress import Display, LogBook
from study.reporting.tensorboard import TensorBoard
from study.session.session import Session
from study.storage.study_folder import StudyFolder
from study.trials.records import TrialRecord
from study.trials.running_trial import RunningTrial
from trainables.checkpointing.trial_folder import TrialFolder
from trainables.configuration.schema import validate
from trainables.ray_trainable import TrialSpec, TrialTrainable
from trainables.training.report import Report
from trainables.trial_config import TrialConfig

SPACE = """
task: digits
final_seeds: 0
pruner: asha
fixed: {backbone: small_cnn, schedule: {num_epochs: 3}}
search:
  optimizer: {learning_rate: {log_uniform: [1.0e-4, 1.0e-1]}}
  method:
    choice:
      no_adaptation: {}
      dann: {domain_weight: {log_uniform: [0.03, 3.0]}}
"""

SCRATCH = ".tune"
"""Tune's folder in the study's."""

EDGES = (0, 10, 100, 500, *range(1000, 100_000, 500))
"""Numbers of ended trials between which windows lie."""


class TrivialTrainable(TrialTrainable):
    """A trial that is over as soon as it has been asked."""

    def setup(self, config: TrialSpec) -> None:  # type: ignore[override]
        """Yield made-up reports."""
        self.files = TrialFolder(Path(config["folder"]))
        self.reports = made_up(validate(TrialConfig, config["trial"]))


def made_up(config: TrialConfig) -> Generator[Report, None, None]:
    """Yield a trial's reports, one an epoch; its score is its learning rate."""
    num_epochs = config.schedule.num_epochs
    assert num_epochs is not None
    for epoch in range(1, num_epochs + 1):
        value = config.optimizer.learning_rate * epoch
        figures = {f"criterion/{i}": value for i in range(10)}
        yield Report(
            "training",
            epoch,
            num_epochs,
            epoch,
            num_epochs,
            value,
            epoch,
            {
                **figures,
                "criterion/bnm": value,
                "criterion/oracle": value,
                "source_val/accuracy": 1.0,
            },
            0.0,
            0.0,
            epoch == num_epochs,
        )


@dataclass(frozen=True)
class Use:
    """What a process has used."""

    cpu_seconds: float
    wall_seconds: float
    resident_bytes: int

    @classmethod
    def now(cls) -> "Use":
        """Of this process."""
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(time.process_time(), time.monotonic(), pages * os.sysconf("SC_PAGE_SIZE"))


class Evaluator:
    """Prints what the process uses while trials end; an observer of a session.

    Args:
        snapshots: The folder below which Tune's are, if their size is to be printed.
    """

    def __init__(self, snapshots: Path | None = None) -> None:
        self.snapshots = snapshots
        self.num_ended = 0
        self.marks: list[tuple[int, Use]] = []
        """Trials that had ended, and what had been used; a window lies between two of them."""

    def on_start(self, trial: RunningTrial) -> None:
        """See :class:`study.session.session.Observer`."""
        if not self.marks:  # what comes before, Ray's start for one, does not count
            self.marks.append((0, Use.now()))

    def on_report(self, trial: RunningTrial, report: Report) -> None:
        """See :class:`study.session.session.Observer`."""

    def on_end(self, trial: RunningTrial, record: TrialRecord) -> None:
        """See :class:`study.session.session.Observer`."""
        self.num_ended += 1
        if self.num_ended in EDGES:
            self.mark()

    def mark(self) -> None:
        """End a window, unless no trial has ended in it."""
        if self.marks and self.num_ended > self.marks[-1][0]:
            self.marks.append((self.num_ended, Use.now()))
            print(window(*self.marks[-2:]), end="", flush=True)
            size = self.snapshots and size_of_snapshot(self.snapshots)
            print(f"; a snapshot {size / 1024:.0f} KiB" if size else "", flush=True)


def window(begin: tuple[int, Use], end: tuple[int, Use]) -> str:
    """Return a line on what each trial used between two marks."""
    (first, before), (last, after) = begin, end
    count = last - first
    return (
        f"{first + 1:6d} to {last:6d}: "
        f"{1e3 * (after.cpu_seconds - before.cpu_seconds) / count:6.1f} CPU-ms, "
        f"{1e3 * (after.wall_seconds - before.wall_seconds) / count:6.1f} ms and "
        f"{(after.resident_bytes - before.resident_bytes) / count / 1024:5.1f} KiB a trial; "
        f"{after.resident_bytes / 2**20:5.0f} MiB"
    )


def size_of_snapshot(folder: Path) -> int:
    """Bytes of the largest snapshot of Tune's below a folder; 0 if there is none."""
    return max(
        (path.stat().st_size for path in folder.rglob("experiment_state-*.json")), default=0
    )


def settings_of(
    space: str | None, num_trials: int | None, sampler: str, concurrency: int
) -> StudyConfig:
    """Return the benchmark's own study, or a space's first one, with some settings changed."""
    changes = {"sampler": sampler, "concurrency": concurrency}
    if space is None:
        return validate(
            StudyConfig, {**yaml.safe_load(SPACE), "num_trials": num_trials or 10_000, **changes}
        )
    overrides = [f"{name}={value}" for name, value in changes.items()]
    if num_trials is not None:
        overrides.append(f"num_trials={num_trials}")
    return read_studies(space, overrides)[0][0]


@contextmanager
def opened(settings: StudyConfig, folder: Path, meter: Evaluator) -> Iterator[Session]:
    """Open a study as for a run, watched by a meter."""
    space, study_folder = settings.space(), StudyFolder(folder)
    display = Display(Console(file=io.StringIO()), "bnm", 1)
    board = TensorBoard(study_folder, list(space.tree.parameters()))
    session = Session(settings, space, study_folder, [board, display, LogBook(), meter])
    display.session = session
    yield session
    board.close()


def run_alone(session: Session, concurrency: int) -> None:
    """Run a session's trials in turns in this process."""
    reports: dict[str, Iterator[Report]] = {}
    while not session.is_over:
        while len(session.live) < concurrency and (trial := session.next_trial()) is not None:
            reports[trial.id] = made_up(trial.config)
        for trial_id in list(session.live):
            if session.on_report(trial_id, next(reports[trial_id])):
                del reports[trial_id]


def run_under_tune(session: Session, concurrency: int) -> None:
    """Run a session's trials as a study does."""
    root = session.study_folder.root
    resources = next(session.study.space().probe_configs()).resources
    setattr(study.execution.tuner, "TrialTrainable", TrivialTrainable)  # noqa: B010 - here only
    with own_ray(concurrency, concurrency) as wait_for_ray:
        wait_for_ray()
        with GracefulShutdown() as interruption:
            study.execution.tuner.run(
                session, resources, concurrency, root / "cache", root / SCRATCH, interruption
            )


def bytes_a_trial(study_folder: StudyFolder, num_trials: int) -> dict[str, int]:
    """Return the bytes per trial of a study's files, by the kind of file."""
    events = [path for path in study_folder.tensorboard.rglob("*") if path.is_file()]
    files = {
        "journal": [study_folder.journal],
        "records": [study_folder.records],
        "TensorBoard": events,
    }
    return {
        kind: round(sum(path.stat().st_size for path in paths) / num_trials)
        for kind, paths in files.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what trials cost a study's process.")
    parser.add_argument("--trials", type=int, help="10,000, or as many as the space has")
    parser.add_argument("--sampler", choices=["random", "tpe"], default="random")
    parser.add_argument("--concurrency", type=int, default=2)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--alone", action="store_true", help="without Ray")
    how.add_argument("--snapshots", action="store_true", help="with Tune's own, and their size")
    parser.add_argument("--space", help="the benchmark's own unless one is named")
    options = parser.parse_args()
    settings = settings_of(options.space, options.trials, options.sampler, options.concurrency)
    with tempfile.TemporaryDirectory() as folder:
        study_folder = StudyFolder(Path(folder))
        meter = Evaluator(study_folder.root / SCRATCH if options.snapshots else None)
        if options.snapshots:
            os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "auto"
        logging.basicConfig(filename=study_folder.log, level=logging.INFO)
        with opened(settings, study_folder.root, meter) as session:
            run = run_alone if options.alone else run_under_tune
            run(session, options.concurrency)
            meter.mark()
        print(f"{meter.num_ended} trials, {session.file.epochs:.0f} epochs of the search")
        print("bytes a trial:", json.dumps(bytes_a_trial(study_folder, meter.num_ended)))


if __name__ == "__main__":
    main()
