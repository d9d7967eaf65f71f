"""Studies as a user starts them: in a process of their own, watched from outside."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from study.config.reading import read_study
from study.session.session import Session
from study.storage.study_folder import StudyFolder
from study.trials.records import TrialRecord, read_records
from trainables.run import main as run_alone
from trainables.training.trial import run_trial

TINY = Path(__file__).parent / "spaces" / "tiny.yaml"
DEADLINE_SECONDS = 300.0
"""For anything to happen, on a machine that is busy with something else."""


@dataclass(frozen=True)
class Finished:
    """What a command left behind."""

    code: int
    stdout: str
    stderr: str
    seconds: float
    """From the command, or the signal that ended it, to its end."""


@dataclass
class RunningStudy:
    """A study's process: the leader of a group of its own, like a command in a terminal."""

    command: list[str]
    folder: Path
    process: subprocess.Popen[str] = field(init=False)
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            self.command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait_for(self, what: Callable[[], object]) -> None:
        """Waits until something is so while the study runs."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not what():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.01)

    def end_by(self, number: signal.Signals, whole_group: bool = False) -> Finished:
        """Sends a signal to the study's process, or to all of them as a terminal does."""
        self.started = time.monotonic()
        (os.killpg if whole_group else os.kill)(self.process.pid, number)
        return self.finish()

    def finish(self) -> Finished:
        """Waits for the end."""
        stdout, stderr = self.process.communicate(timeout=DEADLINE_SECONDS)
        seconds = time.monotonic() - self.started
        return Finished(self.process.returncode, stdout, stderr, seconds)

    # Its files

    def trial(self, trial_id: str) -> Path:
        """A trial's folder."""
        return StudyFolder(self.folder).trial(trial_id)

    def records(self) -> dict[str, TrialRecord]:
        """Its records so far, by id."""
        path = StudyFolder(self.folder).records
        found = read_records(path) if path.exists() else []
        assert len({record.id for record in found}) == len(found)
        return {record.id: record for record in found}

    def log(self) -> str:
        """Its log so far."""
        path = StudyFolder(self.folder).log
        return path.read_text() if path.exists() else ""

    # Its processes

    def processes(self) -> dict[int, str]:
        """The processes that it has started, by id, and what they are called."""
        found = {}
        for process in Path("/proc").iterdir():
            try:
                pid = int(process.name)
                session = int((process / "stat").read_text().rpartition(")")[2].split()[3])
                title = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            except (OSError, ValueError):
                continue
            if session == self.process.pid != pid and title:
                found[pid] = title
        return found

    def trainers(self) -> list[int]:
        """The processes that run trials."""
        return sorted(
            pid
            for pid, title in self.processes().items()
            if title.startswith(
                ("ray::ResourceTrainable", "ray::TrialTrainable", "ray::RayTrainWorker")
            )
        )


def start(out: Path, name: str, *arguments: str) -> RunningStudy:
    """Starts the tiny study with further arguments."""
    command = [
        sys.executable,
        "-m",
        "study.run",
        "--space",
        str(TINY),
        "--out",
        str(out),
        "--name",
        name,
        *arguments,
    ]
    return RunningStudy(command, out / name)


def resume(study: RunningStudy) -> RunningStudy:
    """Goes on with a study that could not say how."""
    return RunningStudy([*study.command, "--resume"], study.folder)


def go_on(study: RunningStudy, finished: Finished) -> RunningStudy:
    """Runs the command that an interrupted study has printed, as it stands there."""
    lines = finished.stdout.splitlines()
    return RunningStudy(
        shlex.split(lines[lines.index("Interrupted. To resume:") + 1]), study.folder
    )


def overrides(**values: object) -> list[str]:
    """``--set`` arguments; dots in keys are written as two underscores."""
    return [
        part
        for key, value in values.items()
        for part in ("--set", f"{key.replace('__', '.')}={value}")
    ]


def wait_until_gone(pids: Iterable[int]) -> None:
    """Waits until processes have ended by themselves."""
    left, deadline = set(pids), time.monotonic() + DEADLINE_SECONDS
    while left:
        left = {pid for pid in left if _is_alive(pid)}
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.05)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def figures(record: TrialRecord) -> dict[str, Any]:
    """All of a record that does not depend on when and how its trial ran."""
    return record.model_dump(exclude={"seconds", "cpu_seconds", "restarts"})


def run_without_ray(
    out: Path, name: str, *arguments: str, space: Path = TINY
) -> list[TrialRecord]:
    """What a study, the tiny one, comes to, one trial after another in this process."""
    values = [
        value
        for flag, value in zip(arguments[::2], arguments[1::2], strict=True)
        if flag == "--set"
    ]
    study_folder = StudyFolder(out / name)
    study_folder.root.mkdir(parents=True)
    session = Session(*read_study(str(space), values), study_folder)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    while not session.is_over:
        trial = session.next_trial()
        assert trial is not None
        for report in run_trial(trial.config, study_folder.trial(trial.id), out / "cache"):
            if session.on_report(trial.id, report):
                break
    torch.set_num_threads(before)
    return session.records


def reproduces(study: RunningStudy, trial_id: str, out: Path, capsys: Any) -> bool:
    """Whether ``trainables.run`` gets a record's numbers, bit for bit."""
    before = torch.get_num_threads()
    code = run_alone(
        [
            "--record",
            str(StudyFolder(study.folder).records),
            "--trial",
            trial_id,
            "--out",
            str(out),
            "--cache",
            str(out / "cache"),
        ]
    )
    torch.set_num_threads(before)
    return code == 0 and "bit-equal" in capsys.readouterr().out
