"""Submits a study as a job of a Ray cluster, follows it, and returns its exit code."""

import study.execution.ray_settings  # noqa: F401 - before Ray

# isort: split
import asyncio
import logging
import os
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from study.execution.provenance import REVISION_VARIABLE, revision
from study.jobs.log_stream import JobServer, follow, refusal
from study.jobs.packing import Submission, pack
from study.jobs.tunnel import tunnel, use_token

STOP_SECONDS = 60
"""Seconds that `ray job stop` gives a study to end; Ray's default of 3 is too short to save it."""


def run_on_cluster(
    submission: Submission,
    address: str,
    say: Callable[[str], None],
    connect: Callable[[], None] = lambda: None,
) -> int:
    """Submit a study, or find its running job, and follow the log to its end.

    Args:
        submission: The study.
        address: Address of the cluster's job server.
        say: Shows a line to the user. The log itself goes to standard output.
        connect: Called before each attempt to reconnect, to reopen a tunnel.

    Returns:
        The exit code of the study; 130 if the job was stopped, or on Ctrl-C here.

    Raises:
        ValueError: The cluster cannot be reached, or rejects the study.
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
            f"{submission.name}: already running on this cluster as job {running[0]}. "
            "Follow it with --resume, or choose another --name."
        )
    if running:
        job = running[0]
        say(f"Following job {job}, which is already running. Ctrl-C leaves it running.")
    else:
        job = _submit(client, submission, {job.submission_id for job in jobs})
        say(f"Submitted as job {job}. Ctrl-C leaves it running.")
    server = JobServer(client.get_address(), client._headers)  # contain the token
    try:
        details = asyncio.run(follow(server, job, sys.stdout, connect, say))
    except KeyboardInterrupt:
        say(
            f"The study keeps running. To follow it, run the same command with --resume; to stop "
            f"it:\n"
            f"  ray job stop --address {address} {job}"
        )
        return 130
    return _exit_code(details, say)


def _client(address: str) -> Any:
    """Connect to a job server; raise a ``ValueError`` if that fails."""
    import requests
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    logging.getLogger("ray").handlers.clear()  # messages about uploaded files
    logging.getLogger("ray").propagate = False
    os.environ["RAY_API_SERVER_ADDRESS"] = address  # the client prefers it to its argument
    try:
        return JobSubmissionClient(address)
    except AuthenticationError as error:
        raise ValueError(refusal(401, address, "its version")) from error
    except (ConnectionError, requests.exceptions.RequestException, RuntimeError) as error:
        raise ValueError(
            f"{address}: no job server answers. Check that the cluster is up and "
            "that a tunnel is open (ray dashboard FILE), or let --cluster FILE open one."
        ) from error


def _submit(client: Any, submission: Submission, taken: set[str]) -> str:
    """Submit a study as a job with an ID that is not taken; return the ID."""
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


def _exit_code(details: dict[str, Any], say: Callable[[str], None]) -> int:
    """Return the exit code of a job that has ended, and explain it unless its log does."""
    if details["status"] == "STOPPED":
        say("The job was stopped. To resume the study, run the same command with --resume.")
        return 130
    code = details.get("driver_exit_code")
    if code is None:  # the command did not start
        say(f"The job failed: {details.get('message')}")
        return 1
    return int(code)


def submit(
    submission: Submission, address: str | None, cluster: Path | None, say: Callable[[str], None]
) -> int:
    """Run a study as a job of a cluster.

    Args:
        submission: The study.
        address: Address of the job server; required without ``cluster``.
        cluster: The configuration that ``ray up`` was given, to open a tunnel.
        say: Shows a line to the user.

    Returns:
        The exit code of the study; 130 if the job was stopped, or on Ctrl-C here.

    Raises:
        ValueError: The cluster cannot be reached, or rejects the study.
    """
    if cluster is None:
        assert address is not None
        return run_on_cluster(submission, address.rstrip("/"), say)
    with tunnel(cluster) as opened:
        return run_on_cluster(submission, opened.address, say, opened.open)
