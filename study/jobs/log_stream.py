"""Follows the log of a job on a Ray cluster, and reconnects when the connection is lost.

Ray's own ``JobSubmissionClient.tail_job_logs`` is not used: it cannot tell a lost connection from
a job that prints nothing, so that it may wait forever, and every call starts with the first line.
WebSocket pings do not help, because Ray's server does not answer them. The code below asks for
the status of a quiet job by HTTP, and skips lines that it has already copied.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TextIO

import aiohttp

QUIET_SECONDS = 15.0
"""Seconds without a line after which the server is asked whether the job has ended."""

STALE_SECONDS = 600.0
"""Seconds without a line after which to reconnect. A router on the way may have dropped the
connection, which neither side notices."""

ANSWER_TIMEOUT_SECONDS = 30.0
"""Seconds that the job server may take to answer a request."""

PAUSES = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds before each attempt to reconnect; the last value repeats."""

HINT_SECONDS = 300.0
"""Seconds without an answer after which the user is told that the head may be lost."""

GIVE_UP_SECONDS = 3600.0
"""Seconds without an answer after which to give up. Time in which this machine sleeps does not
count."""

HINT = (
    "If the head of the cluster is lost, restart it (`ray up`). Then, or if the study is still "
    "running, run the same command with --resume."
)

ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
"""Names in Ray of the final states of a job."""


class JobRefusedError(ValueError):
    """The job server rejected a request, or no longer answers."""


@dataclass(frozen=True)
class JobServer:
    """The HTTP API for jobs of a cluster."""

    address: str
    """Base URL, such as ``http://HOST:8265``."""
    headers: Mapping[str, str]
    """HTTP headers that authorise the request."""

    async def job(self, session: aiohttp.ClientSession, job: str) -> dict[str, Any]:
        """Request the details of a job.

        Raises:
            JobRefusedError: The job is unknown, or the token is not that of the cluster.
            aiohttp.ClientError: The server does not answer, or answers with an error of its own.
        """
        timeout = aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_SECONDS)
        async with session.get(f"{self.address}/api/jobs/{job}", timeout=timeout) as answer:
            if answer.status >= 500:  # temporary: the server or a proxy restarts
                answer.raise_for_status()
            if answer.status != 200:
                raise JobRefusedError(refusal(answer.status, self.address, f"job {job}"))
            details: dict[str, Any] = await answer.json()
            return details


def refusal(status: int, address: str, what: str) -> str:
    """Explain the status of a response that is an error.

    Args:
        status: HTTP status code.
        address: Base URL of the server.
        what: What was requested.
    """
    if status in (401, 403):
        return (
            f"{address}: the cluster requires a token, and the one here is missing "
            "or wrong. Put the token of the cluster into ~/.ray/auth_token."
        )
    if status == 404:
        return (
            f"{address}: the cluster does not know {what}; it may have been restarted. "
            "In that case resume the study with the same command and --resume."
        )
    return f"{address}: the cluster answered a request for {what} with status {status}."


async def follow(
    server: JobServer,
    job: str,
    output: TextIO,
    connect: Callable[[], None],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Copy the log of a job to a stream until the job ends, each line once.

    Args:
        server: The job server.
        job: Submission ID of the job.
        output: Receives the log.
        connect: Called before each attempt to reconnect, to reopen a tunnel.
        say: Shows a line to the user.

    Returns:
        Details of the job that has ended: ``status``, ``driver_exit_code``, …

    Raises:
        JobRefusedError: The server does not know the job, rejects the token, or has not answered
            for an hour.
    """
    copy, connection = _Copy(output), _Connection(server.address, say)
    # For a WebSocket this limits the handshake only.
    timeout = aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_SECONDS)
    details: dict[str, Any] = {}
    async with aiohttp.ClientSession(headers=dict(server.headers), timeout=timeout) as session:

        async def has_ended() -> bool:
            nonlocal details
            details = await server.job(session, job)
            connection.succeeded()
            return details["status"] in ENDED

        while True:
            pause = PAUSES[0]
            try:
                async with session.ws_connect(
                    f"{server.address}/api/jobs/{job}/logs/tail", max_msg_size=0
                ) as log:
                    is_whole = await _copy_log(log, copy, connection, has_ended)
                if await has_ended() and is_whole:
                    return details
            except aiohttp.WSServerHandshakeError as error:
                if error.status < 500:
                    raise JobRefusedError(
                        refusal(error.status, server.address, f"job {job}")
                    ) from error
                pause = connection.failed()
            except (TimeoutError, aiohttp.ClientError, OSError):
                pause = connection.failed()
            await asyncio.sleep(pause)
            connect()


async def _copy_log(
    log: aiohttp.ClientWebSocketResponse,
    copy: "_Copy",
    connection: "_Connection",
    has_ended: Callable[[], Awaitable[bool]],
) -> bool:
    """Copy the log from one connection.

    Returns:
        Whether the server closed the connection, which it does after the last line.
    """
    copy.begin()
    heard = time.monotonic()
    while True:
        try:
            message = await log.receive(timeout=QUIET_SECONDS)
        except TimeoutError:
            if await has_ended() or time.monotonic() - heard > STALE_SECONDS:
                return False
            continue
        if message.type is not aiohttp.WSMsgType.TEXT:
            return message.type is aiohttp.WSMsgType.CLOSE  # CLOSED means a broken connection
        if copy.write(message.data):
            connection.succeeded()
        heard = time.monotonic()


class _Copy:
    """Copies a log once, although each connection sends it from the first line."""

    def __init__(self, output: TextIO) -> None:
        self.output = output
        self.copied = 0
        """Number of characters copied so far, over all connections."""
        self.seen = 0
        """Number of characters received by the current connection."""

    def begin(self) -> None:
        """Start a new connection."""
        self.seen = 0

    def write(self, text: str) -> bool:
        """Copy the new part of received text; return whether there is any."""
        new = text[max(self.copied - self.seen, 0) :]
        self.seen += len(text)
        self.copied += len(new)
        self.output.write(new)
        self.output.flush()
        return bool(new)


class _Connection:
    """The state of the connection to a server, which the user is told about."""

    def __init__(self, address: str, say: Callable[[str], None]) -> None:
        self.address = address
        self.say = say
        self.lost_at: float | None = None
        self.attempts = 0
        self.hinted = False

    def succeeded(self) -> None:
        """Register that the server has answered."""
        if self.lost_at is not None:
            self.say("Reconnected.")
            self.lost_at, self.attempts, self.hinted = None, 0, False

    def failed(self) -> float:
        """Register that the server has not answered.

        Returns:
            Seconds until the next attempt.

        Raises:
            JobRefusedError: The server has not answered for too long.
        """
        if self.lost_at is None:
            self.lost_at = time.monotonic()
            self.say("The connection was lost; the study keeps running. Reconnecting …")
        lasts = time.monotonic() - self.lost_at
        if lasts > GIVE_UP_SECONDS:
            raise JobRefusedError(f"{self.address}: no answer for an hour. {HINT}")
        if lasts > HINT_SECONDS and not self.hinted:
            self.say(f"No answer for five minutes. {HINT} Still trying …")
            self.hinted = True
        self.attempts += 1
        return PAUSES[min(self.attempts, len(PAUSES)) - 1]
