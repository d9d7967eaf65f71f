"""The log of a job on a Ray cluster, followed through connections that are lost.

Ray's own follower takes a connection that has gone silent for one that is quiet, and begins anew
when it is called again. Ray's server does not answer a WebSocket's pings.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TextIO

import aiohttp

QUIET_SECONDS = 15.0
"""Without a line, before the server is asked whether the job goes on."""

STALE_SECONDS = 600.0
"""Without a line, before the connection is made anew: what lies between may have dropped it."""

ANSWER_TIMEOUT_SECONDS = 30.0
"""That the job server is given to answer."""

PAUSES = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds between attempts to connect again; the last one from then on."""

HINT_SECONDS = 300.0
"""Without an answer, before it is said that the head may be lost."""

GIVE_UP_SECONDS = 3600.0
"""Without an answer, before it is no longer waited for. Sleep of this machine does not count."""

HINT = (
    "If the cluster's head was lost, start it again (`ray up`); then, or if the study goes "
    "on, give the same command with --resume."
)

ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
"""Ray's words for jobs that are over."""


class JobRefusedError(ValueError):
    """The job server answered, and not with what was asked for."""


@dataclass(frozen=True)
class JobServer:
    """A cluster's interface for jobs."""

    address: str
    """``http://HOST:8265``"""
    headers: Mapping[str, str]
    """What shows that one may."""

    async def job(self, session: aiohttp.ClientSession, job: str) -> dict[str, Any]:
        """What the server knows of a job.

        Raises:
            JobRefusedError: It knows none of that name, or the token is not the cluster's.
            aiohttp.ClientError: It does not answer, or not as itself.
        """
        timeout = aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_SECONDS)
        async with session.get(f"{self.address}/api/jobs/{job}", timeout=timeout) as answer:
            if answer.status >= 500:  # what lies between us, or the server, is not itself
                answer.raise_for_status()
            if answer.status != 200:
                raise JobRefusedError(refusal(answer.status, self.address, f"job {job}"))
            details: dict[str, Any] = await answer.json()
            return details


def refusal(status: int, address: str, what: str) -> str:
    """A line for an answer that is none."""
    if status in (401, 403):
        return (
            f"{address}: the cluster asks for a token, and the one here is missing "
            "or not its own. It belongs into ~/.ray/auth_token."
        )
    if status == 404:
        return (
            f"{address}: the cluster does not know {what}; it may have been started anew. "
            "Then the same command with --resume goes on with the study."
        )
    return f"{address}: the cluster answered {status} to the question for {what}."


async def follow(
    server: JobServer,
    job: str,
    output: TextIO,
    connect: Callable[[], None],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Copies a job's log to a stream until the job ends, each line once.

    Args:
        server: Where the job is.
        job: Its submission id.
        output: Where the log goes.
        connect: Called before each further attempt, to open the way to the server again.
        say: Shows a line to the user.

    Returns:
        What the server knows of the job that has ended: ``status``, ``driver_exit_code``, …

    Raises:
        JobRefusedError: The server does not know the job, or does not let us in, or has not
            answered for an hour.
    """
    copy, way = _Copy(output), _Way(server.address, say)
    timeout = aiohttp.ClientTimeout(
        total=ANSWER_TIMEOUT_SECONDS
    )  # of the handshake; not of what follows
    details: dict[str, Any] = {}
    async with aiohttp.ClientSession(headers=dict(server.headers), timeout=timeout) as session:

        async def has_ended() -> bool:
            nonlocal details
            details = await server.job(session, job)
            way.is_open()
            return details["status"] in ENDED

        while True:
            pause = PAUSES[0]
            try:
                async with session.ws_connect(
                    f"{server.address}/api/jobs/{job}/logs/tail", max_msg_size=0
                ) as log:
                    is_whole = await _copy_log(log, copy, way, has_ended)
                if await has_ended() and is_whole:
                    return details
            except aiohttp.WSServerHandshakeError as error:
                if error.status < 500:
                    raise JobRefusedError(
                        refusal(error.status, server.address, f"job {job}")
                    ) from error
                pause = way.is_lost()
            except (TimeoutError, aiohttp.ClientError, OSError):
                pause = way.is_lost()
            await asyncio.sleep(pause)
            connect()


async def _copy_log(
    log: aiohttp.ClientWebSocketResponse,
    copy: "_Copy",
    way: "_Way",
    has_ended: Callable[[], Awaitable[bool]],
) -> bool:
    """Copies what a connection shows; says whether the server ended it, having shown all."""
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
            return message.type is aiohttp.WSMsgType.CLOSE  # CLOSED: the connection is broken
        if copy.write(message.data):
            way.is_open()
        heard = time.monotonic()


class _Copy:
    """A log that is copied once, though each connection begins with its first line."""

    def __init__(self, output: TextIO) -> None:
        self.output = output
        self.copied = 0
        """Characters, by all connections."""
        self.seen = 0
        """Of this one."""

    def begin(self) -> None:
        """The log comes again from the start."""
        self.seen = 0

    def write(self, text: str) -> bool:
        """Copies what is new of some further text; says whether anything is."""
        new = text[max(self.copied - self.seen, 0) :]
        self.seen += len(text)
        self.copied += len(new)
        self.output.write(new)
        self.output.flush()
        return bool(new)


class _Way:
    """The way to a server, which is open as long as the server answers."""

    def __init__(self, address: str, say: Callable[[str], None]) -> None:
        self.address = address
        self.say = say
        self.lost_at: float | None = None
        self.attempts = 0
        self.hinted = False

    def is_open(self) -> None:
        """The server has answered."""
        if self.lost_at is not None:
            self.say("Connected again.")
            self.lost_at, self.attempts, self.hinted = None, 0, False

    def is_lost(self) -> float:
        """It has not; returns the seconds until the next attempt.

        Raises:
            JobRefusedError: There should be none.
        """
        if self.lost_at is None:
            self.lost_at = time.monotonic()
            self.say("The connection was lost; the study goes on. Connecting again …")
        lasts = time.monotonic() - self.lost_at
        if lasts > GIVE_UP_SECONDS:
            raise JobRefusedError(f"{self.address}: no answer for an hour. {HINT}")
        if lasts > HINT_SECONDS and not self.hinted:
            self.say(f"No answer for five minutes. {HINT} Trying on …")
            self.hinted = True
        self.attempts += 1
        return PAUSES[min(self.attempts, len(PAUSES)) - 1]
