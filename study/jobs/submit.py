"""A study as a job of a Ray cluster: what is sent there, and how it is started and followed."""

import study.execution.ray_settings  # noqa: F401 - before Ray

# isort: split
import asyncio
import logging
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study.config.reading import shipped_spaces
from study.execution.environment import REVISION_VARIABLE, revision
from study.jobs.log_stream import JobServer, follow, refusal
from study.storage.study_folder import StudyFolder

SOURCE = Path(__file__).parents[2]
PACKAGES = ("study", "trainables", "search_spaces")
"""What a job runs, all that is sent beside the files that its command names."""

GIVEN = "given"
"""The folder of those files in the job's working directory."""

OPEN_SECONDS = 180.0
"""That the way to a cluster's head may take to open."""

STOP_SECONDS = 60
"""That `ray job stop` gives a study to end; Ray's own three are not enough."""


@dataclass(frozen=True)
class Submission:
    """A study that is to run on a cluster."""

    space: str
    """A shipped space's name, or a file."""
    name: str
    """The study's."""
    storage: str
    """Where its folder is, as the cluster's machines see it."""
    resume: bool
    arguments: tuple[str, ...]
    """Of ``study.run``, as far as they are not said here."""
    earlier: tuple[tuple[str, str], ...] = ()
    """Options that name an earlier study, and where that one is."""


def use_token() -> None:
    """Turns authentication on if there is a token; Ray looks when it is imported."""
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")).expanduser()
    if "RAY_AUTH_TOKEN" in os.environ or path.is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def run_on_cluster(
    submission: Submission,
    address: str,
    say: Callable[[str], None],
    connect: Callable[[], None] = lambda: None,
) -> int:
    """Submits a study, or finds the job that it is, and follows its log to the end.

    Args:
        submission: The study.
        address: Of the cluster's job server.
        say: Shows a line to the user; the log itself goes to the standard output.
        connect: Opens the way to the server again.

    Returns:
        The exit code of the study; 130 if it was stopped, or if following it was.

    Raises:
        ValueError: The cluster cannot be reached or does not take the study.
    """
    use_token()
    client = _client(address)
    jobs = client.list_jobs()
    own = [
        job
        for job in jobs
        if (job.metadata or {}).get("study") == submission.name
        and (job.metadata or {}).get("storage") == submission.storage
    ]
    running = [job.submission_id for job in own if not job.status.is_terminal()]
    if running and not submission.resume:
        raise ValueError(
            f"{submission.name}: runs already on this cluster, as job {running[0]}. "
            "Follow it with --resume, or choose another --name."
        )
    if running:
        job = running[0]
        say(f"Following job {job}, which runs already. Ctrl-C leaves it running.")
    else:
        job = _submit(client, submission, {job.submission_id for job in jobs})
        say(f"Submitted as job {job}. Ctrl-C leaves it running.")
    server = JobServer(client.get_address(), client._headers)  # the token is in them
    try:
        details = asyncio.run(follow(server, job, sys.stdout, connect, say))
    except KeyboardInterrupt:
        say(
            f"The study goes on. To follow it again, give the command with --resume; to stop it:\n"
            f"  ray job stop --address {address} {job}"
        )
        return 130
    return _exit_code(details, say)


def _client(address: str) -> Any:
    import requests
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    logging.getLogger("ray").handlers.clear()  # what it uploads, and which files it leaves out
    logging.getLogger("ray").propagate = False
    os.environ["RAY_API_SERVER_ADDRESS"] = address  # goes before what is given
    try:
        return JobSubmissionClient(address)
    except AuthenticationError as error:
        raise ValueError(refusal(401, address, "its version")) from error
    except (ConnectionError, requests.exceptions.RequestException, RuntimeError) as error:
        raise ValueError(
            f"{address}: no job server answers there. Is the cluster up, and a "
            "tunnel open (ray dashboard FILE)? --cluster FILE opens one."
        ) from error


def _submit(client: Any, submission: Submission, taken: set[str]) -> str:
    stem = re.sub(r"[^\w.-]", "-", submission.name)
    job = next(
        f"{stem}-{number}"
        for number in range(1, len(taken) + 2)
        if f"{stem}-{number}" not in taken
    )
    with tempfile.TemporaryDirectory(prefix="s2r-") as folder:
        command = pack(submission, Path(folder))
        client.submit_job(
            entrypoint=command,
            submission_id=job,
            metadata={"study": submission.name, "storage": submission.storage},
            runtime_env={
                "working_dir": folder,
                "env_vars": {
                    REVISION_VARIABLE: revision(),
                    "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS),
                },
            },
        )
    return job


def pack(submission: Submission, folder: Path) -> str:
    """Puts what a study needs into an empty folder, which becomes the job's working directory.

    Only source that git would track is sent, so no token or key, and no data: those are where the
    cluster's machines see them.

    Returns:
        The command to run there.
    """
    for package in PACKAGES:
        shutil.copytree(
            SOURCE / package, folder / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    if (SOURCE / ".gitignore").exists():
        shutil.copy(SOURCE / ".gitignore", folder)  # Ray heeds it
    space = submission.space
    if space not in shipped_spaces():
        (folder / GIVEN).mkdir(exist_ok=True)
        space = str(Path(GIVEN) / Path(shutil.copy(space, folder / GIVEN)).name)
    command = [
        "python",
        "-m",
        "study.run",
        "--space",
        space,
        "--address",
        "auto",
        *submission.arguments,
    ]
    for option, earlier in submission.earlier:
        at = Path(earlier)
        command += [option, _pack_study(at, folder) if at.is_dir() else earlier]
    return shlex.join([*command, *(["--resume"] if submission.resume else [])])


def _pack_study(earlier: Path, folder: Path) -> str:
    """Takes along of an earlier study what another one reads; returns where it is then."""
    inside = Path(GIVEN) / earlier.resolve().name
    (folder / inside).mkdir(parents=True, exist_ok=True)
    for path in (StudyFolder(earlier).space, StudyFolder(earlier).records):
        if path.exists():
            shutil.copy(path, folder / inside)
    return str(inside)


def _exit_code(details: dict[str, Any], say: Callable[[str], None]) -> int:
    if details["status"] == "STOPPED":
        say("The job was stopped. To go on, give the command with --resume.")
        return 130
    code = details.get("driver_exit_code")
    if code is None:  # it did not come so far
        say(f"The job failed: {details.get('message')}")
        return 1
    return int(code)


# The way to a cluster that `ray up` has started


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


def submit(
    submission: Submission, address: str | None, cluster: Path | None, say: Callable[[str], None]
) -> int:
    """Runs a study on a cluster by its job server's address or by the file of ``ray up``."""
    if cluster is None:
        assert address is not None
        return run_on_cluster(submission, address.rstrip("/"), say)
    with tunnel(cluster) as way:
        return run_on_cluster(submission, way.address, say, way.open)
