"""Studies as a user starts them: in a process of their own, watched from outside."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from study.records import TrialRecord, read_records

TINY = Path(__file__).parent / "spaces" / "tiny.yaml"
DEADLINE_SECONDS = 120.0


@dataclass
class Finished:
    """What a command left behind."""

    code: int
    stdout: str
    stderr: str
    seconds: float
    """From the command, or the last signal, to its end."""


@dataclass
class RunningStudy:
    """A study's process: the leader of a group of its own, like a command in a terminal."""

    command: list[str]
    out: Path
    name: str
    process: subprocess.Popen[str] = field(init=False)
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            self.command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True)

    @property
    def folder(self) -> Path:
        return self.out / self.name

    def trial(self, trial_id: str) -> Path:
        return self.folder / "trials" / trial_id

    def records(self) -> dict[str, TrialRecord]:
        path = self.folder / "records.jsonl"
        return {r.id: r for r in read_records(path)} if path.exists() else {}

    def wait_until(self, what: Callable[[], object]) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not what():
            assert self.process.poll() is None, self.wait()
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.01)

    def interrupt(self, number: signal.Signals, whole_group: bool = False) -> Finished:
        self.started = time.monotonic()
        if whole_group:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)
        return self.wait()

    def wait(self) -> Finished:
        stdout, stderr = self.process.communicate(timeout=DEADLINE_SECONDS)
        return Finished(self.process.returncode, stdout, stderr, time.monotonic() - self.started)


def start(out: Path, name: str, *arguments: str, space: Path = TINY) -> RunningStudy:
    """Starts a study with further arguments of the command."""
    command = [sys.executable, "-m", "study.run", "--space", str(space), "--out", str(out),
               "--name", name, *arguments]
    return RunningStudy(command, out, name)


def go_on(study: RunningStudy, finished: Finished) -> RunningStudy:
    """Runs the command that an interrupted study has printed, as it stands there."""
    line = finished.stdout.splitlines()[-1]
    return RunningStudy(shlex.split(line), study.out, study.name)


def resume(study: RunningStudy) -> RunningStudy:
    """Goes on with a study that could not say how."""
    return RunningStudy([*study.command, "--resume"], study.out, study.name)


def processes_of(study: RunningStudy) -> dict[int, str]:
    """Ray's processes of a study, by their id, and what they are called."""
    found = {}
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            session = int((process / "stat").read_text().rpartition(")")[2].split()[3])
            title = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        except (OSError, ValueError):
            continue
        if session == study.process.pid and int(process.name) != session and title:
            found[int(process.name)] = title
    return found


def workers(study: RunningStudy) -> list[int]:
    """Processes that train."""
    return [pid for pid, title in processes_of(study).items()
            if title.startswith(("ray::ResourceTrainable", "ray::RayTrainWorker"))]


def wait_for_the_end_of(pids: Iterator[int] | list[int], seconds: float = 30.0) -> None:
    """Waits until processes are gone by themselves."""
    left = set(pids)
    deadline = time.monotonic() + seconds
    while left:
        left = {pid for pid in left if _is_alive(pid)}
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.05)


def _is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def log_of(study: RunningStudy) -> str:
    return (study.folder / "study.log").read_text()


def result_of(study: RunningStudy) -> dict[str, object]:
    content: dict[str, object] = json.loads((study.folder / "result.json").read_text())
    return content
