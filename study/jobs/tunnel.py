"""The way to the job server of a cluster that ``ray up`` has started."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

OPEN_SECONDS = 180.0
"""That the way to a cluster's head may take to open."""


def use_token() -> None:
    """Turns authentication on if there is a token; Ray looks when it is imported."""
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")).expanduser()
    if "RAY_AUTH_TOKEN" in os.environ or path.is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


class Tunnel:
    """``ray dashboard`` in a process of its own.

    Args:
        file: What ``ray up`` was given.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the tunnel
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """The job server's on this machine, also after the tunnel was opened again."""
        return f"http://127.0.0.1:{self.port}"

    def open(self) -> None:
        """Starts it unless it runs; does not wait for it."""
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen(  # in its own session: Ctrl-C is not for it
                [
                    sys.executable,
                    "-m",
                    "ray.scripts.scripts",
                    "dashboard",
                    "--port",
                    str(self.port),
                    str(self.file),
                ],
                stdin=subprocess.DEVNULL,
                stdout=self.said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self) -> None:
        """Waits until somebody answers at its other end.

        Raises:
            ValueError: It does not open.
        """
        deadline = time.monotonic() + OPEN_SECONDS
        while not _answers(self.address):
            assert self.process is not None
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.said.seek(0)
                raise ValueError(
                    f"--cluster {self.file}: the cluster's head cannot be reached: "
                    f"{reason_in(self.said.read().decode(errors='replace'))}. All that was said: "
                    f"ray dashboard {self.file}; what may be wrong with the file: python -m "
                    f"cluster.check {self.file}."
                )
            time.sleep(0.2)

    def close(self) -> None:
        """Ends it with the ssh that it started."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.said.close()


def reason_in(output: str) -> str:
    """The line of a command's output that is most like a reason."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"[\w.]+(Error|Exception): ", line)]
    return (errors or lines or ["no answer"])[-1].rstrip(".:")


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/api/version", timeout=5):
            return True
    except urllib.error.HTTPError:  # it wants the token
        return True
    except (OSError, ValueError):
        return False


@contextmanager
def tunnel(file: Path) -> Iterator[Tunnel]:
    """A way to the job server of a cluster, open as long as this.

    Raises:
        ValueError: It does not open.
    """
    if not file.is_file():
        raise ValueError(f"--cluster {file}: no such file; it is the one that `ray up` was given.")
    use_token()
    way = Tunnel(file)
    try:
        way.open()
        way.wait()
        yield way
    finally:
        way.close()
