"""The machine from which a cluster is started and used: commands as README.md gives them."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.files import ROOT
from tests.support.ray_head import answer_of

PORT = 18265
"""Of the tunnel to the dashboard."""

SECONDS = 900.0
"""For anything to happen, on a machine that is busy with something else."""


@dataclass
class Laptop:
    """A home, and what its commands have said."""

    home: Path
    environment: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    started: list["subprocess.Popen[str]"] = field(default_factory=list)

    def __enter__(self) -> "Laptop":
        self.scratch = tempfile.TemporaryDirectory(prefix="s2r-")
        return self

    def __exit__(self, *exception: object) -> None:
        for process in self.started:
            if process.stdout is not None and not process.stdout.closed:
                self.kill(process)
        self.scratch.cleanup()

    @property
    def all_environment(self) -> dict[str, str]:
        """Of its commands."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return {
            **os.environ,
            "PATH": path,
            "HOME": str(self.home),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_TMPDIR": self.scratch.name,
            "RAY_AUTH_MODE": "token",
            "LC_ALL": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            **self.environment,
        }

    def run(self, *command: str, seconds: float = SECONDS) -> str:
        """A command that must succeed; returns what it printed."""
        process = self.start(*command)
        output = self.finish(process, seconds)
        assert process.returncode == 0, f"{command}: {process.returncode}\n{output[-6000:]}"
        return output

    def start(self, *command: str) -> "subprocess.Popen[str]":
        """A command that goes on meanwhile."""
        process = subprocess.Popen(
            # Who started the tests may have them ignore Ctrl-C, which is inherited.
            ["setpriv", "--pdeathsig", "KILL", "env", "--default-signal=INT", *command],
            cwd=ROOT,
            env=self.all_environment,
            text=True,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.started.append(process)
        return process

    def finish(self, process: "subprocess.Popen[str]", seconds: float = SECONDS) -> str:
        """Waits for a command; returns what it printed."""
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not finished in time:\n{self.kill(process)[-6000:]}") from None
        self.said.append(output)
        return output

    def interrupt(self, process: "subprocess.Popen[str]") -> str:
        """Ctrl-C; returns what the command printed."""
        os.killpg(process.pid, signal.SIGINT)
        return self.finish(process)

    def kill(self, process: "subprocess.Popen[str]") -> str:
        """Ends a command and what it has started; returns what it printed."""
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        self.said.append(output)
        return output

    @contextmanager
    def tunnel(self, cluster: Path) -> Iterator[None]:
        """Makes the dashboard reachable, as ``ray dashboard`` does."""
        process = self.start(
            "ray", "dashboard", "--port", str(PORT), "--no-config-cache", str(cluster)
        )
        try:
            deadline = time.monotonic() + SECONDS
            while status(None) is None:
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline, "no tunnel"
                time.sleep(0.2)
            yield
        finally:
            self.kill(process)


def status(token: str | None, path: str = "/api/jobs/") -> int | None:
    """How the dashboard answers through the tunnel; ``None`` if it does not."""
    return answer_of(f"http://127.0.0.1:{PORT}{path}", token)
