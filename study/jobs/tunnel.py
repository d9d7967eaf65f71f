"""Opens a tunnel to the job server of a cluster that ``ray up`` has started."""

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

OPEN_TIMEOUT_SECONDS = 180.0
"""Seconds that a tunnel may take to open; the head's ssh server may still be starting."""


def use_token() -> None:
    """Turn on Ray's authentication if there is a token. Must run before Ray is imported."""
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")).expanduser()
    if "RAY_AUTH_TOKEN" in os.environ or path.is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


class Tunnel:
    """A tunnel to the job server, held by ``ray dashboard`` in a process of its own.

    Args:
        file: The configuration that ``ray up`` was given.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.output = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the tunnel
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Address of the job server on this machine; the same each time the tunnel is opened."""
        return f"http://127.0.0.1:{self.port}"

    def open(self) -> None:
        """Start the process unless it is running, without waiting for it."""
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen(
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
                stdout=self.output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that Ctrl-C does not end it
            )

    def wait(self) -> None:
        """Wait until the job server answers.

        Raises:
            ValueError: The tunnel does not open.
        """
        deadline = time.monotonic() + OPEN_TIMEOUT_SECONDS
        while not _answers(self.address):
            assert self.process is not None
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.output.seek(0)
                raise ValueError(
                    f"--cluster {self.file}: the cluster's head cannot be reached: "
                    f"{reason_in(self.output.read().decode(errors='replace'))}. For the whole "
                    f"output run ray dashboard {self.file}; to check the file, python -m "
                    f"cluster.check {self.file}."
                )
            time.sleep(0.2)

    def close(self) -> None:
        """End the process and the ssh client that it has started."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.output.close()


def reason_in(output: str) -> str:
    """Return the line of a command's output that most likely tells why it failed."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"[\w.]+(Error|Exception): ", line)]
    return (errors or lines or ["no answer"])[-1].rstrip(".:")


def _answers(address: str) -> bool:
    """Return whether a job server answers at an address."""
    try:
        with urllib.request.urlopen(f"{address}/api/version", timeout=5):
            return True
    except urllib.error.HTTPError:  # it asks for the token
        return True
    except (OSError, ValueError):
        return False


@contextmanager
def tunnel(file: Path) -> Iterator[Tunnel]:
    """Open a tunnel to the job server of a cluster, and close it at the end.

    Args:
        file: The configuration that ``ray up`` was given.

    Raises:
        ValueError: The tunnel does not open.
    """
    if not file.is_file():
        raise ValueError(f"--cluster {file}: no such file. Give the one that `ray up` was given.")
    use_token()
    opened = Tunnel(file)
    try:
        opened.open()
        opened.wait()
        yield opened
    finally:
        opened.close()
