"""A study as a job of a Ray cluster: how it is started, followed and what its end means."""

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

from study.execution.environment import REVISION_VARIABLE, revision
from study.jobs.log_stream import JobServer, follow, refusal
from study.jobs.packing import Submission, pack
from study.jobs.tunnel import tunnel, use_token

STOP_SECONDS = 60
"""That `ray job stop` gives a study to end; Ray's own three are not enough."""


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


def _exit_code(details: dict[str, Any], say: Callable[[str], None]) -> int:
    if details["status"] == "STOPPED":
        say("The job was stopped. To go on, give the command with --resume.")
        return 130
    code = details.get("driver_exit_code")
    if code is None:  # it did not come so far
        say(f"The job failed: {details.get('message')}")
        return 1
    return int(code)


def submit(
    submission: Submission, address: str | None, cluster: Path | None, say: Callable[[str], None]
) -> int:
    """Runs a study on a cluster by its job server's address or by the file of ``ray up``."""
    if cluster is None:
        assert address is not None
        return run_on_cluster(submission, address.rstrip("/"), say)
    with tunnel(cluster) as way:
        return run_on_cluster(submission, way.address, say, way.open)
