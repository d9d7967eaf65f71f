"""The log of a job on a Ray cluster, followed through connections that are lost.

Ray's own follower takes a connection that has gone silent for one that is quiet, and begins anew
when it is called again.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TextIO

import aiohttp

HEARTBEAT_SECONDS = 15.0
"""Between signs of life that a connection is asked for."""

ANSWER_SECONDS = 30.0
"""That the job server is given to answer."""

PAUSES = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds between attempts to connect again; the last one from then on."""

HINT_SECONDS = 300.0
"""Without an answer, before it is said that the head may be lost."""

GIVE_UP_SECONDS = 3600.0
"""Without an answer, before it is no longer waited for. Sleep of this machine does not count."""

HINT = ("If the cluster's head was lost, start it again (`ray up`); then, or if the study goes "
        "on, give the same command with --resume.")

ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
"""Ray's words for jobs that are over."""


class Refused(ValueError):  # noqa: N818 - names what happened
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
            Refused: It knows none of that name, or the token is not the cluster's.
        """
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        async with session.get(f"{self.address}/api/jobs/{job}", timeout=timeout) as answer:
            if answer.status != 200:
                raise Refused(refusal(answer.status, self.address, f"job {job}"))
            details: dict[str, Any] = await answer.json()
            return details


def refusal(status: int, address: str, what: str) -> str:
    """A line for an answer that is none."""
    if status in (401, 403):
        return (f"{address}: the cluster asks for a token, and the one here is missing "
                "or not its own. It belongs into ~/.ray/auth_token.")
    if status == 404:
        return (f"{address}: the cluster does not know {what}; it may have been started anew. "
                "Then the same command with --resume goes on with the study.")
    return f"{address}: the cluster answered {status} to the question for {what}."


async def follow(server: JobServer, job: str, output: TextIO,
                 connect: Callable[[], None], say: Callable[[str], None]) -> dict[str, Any]:
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
        Refused: The server does not know the job, or does not let us in, or has not answered for
            an hour.
    """
    copied, failures = 0, 0
    heard, hinted = time.monotonic(), False
    async with aiohttp.ClientSession(headers=dict(server.headers)) as session:
        while True:
            try:
                async with session.ws_connect(
                        f"{server.address}/api/jobs/{job}/logs/tail",
                        heartbeat=HEARTBEAT_SECONDS, max_msg_size=0) as log:
                    skip = copied  # the server begins with the first line each time
                    try:
                        async for message in log:
                            if message.type is not aiohttp.WSMsgType.TEXT:
                                break
                            text = message.data[skip:]
                            skip = max(0, skip - len(message.data))
                            copied += len(text)
                            output.write(text)
                            output.flush()
                            if text and failures:
                                say("Connected again.")
                                failures = 0
                    finally:  # it may have been quiet for long
                        heard, hinted = time.monotonic(), False
                details = await server.job(session, job)
                if details["status"] in ENDED:
                    return details
            except aiohttp.WSServerHandshakeError as error:
                if error.status < 500:
                    raise Refused(refusal(error.status, server.address, f"job {job}")) from error
            except (aiohttp.ClientError, OSError, asyncio.TimeoutError):
                pass
            if not failures:
                say("The connection was lost; the study goes on. Connecting again …")
            silence = time.monotonic() - heard
            if silence > GIVE_UP_SECONDS:
                raise Refused(f"{server.address}: no answer for an hour. {HINT}")
            if silence > HINT_SECONDS and not hinted:
                say(f"No answer for five minutes. {HINT} Trying on …")
                hinted = True
            await asyncio.sleep(PAUSES[min(failures, len(PAUSES) - 1)])
            failures += 1
            connect()
