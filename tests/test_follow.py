"""A job's log, followed from a server that is not always there."""

import asyncio
import io
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from study import follow as follow_module
from study.follow import JobServer, Refused, follow
from tests.ray_head import free_port

JOB = "study-1"
Serve = Callable[[web.WebSocketResponse], Awaitable[None]]


class Jobs:
    """A job server, whose connections each show the log in a way of their own.

    Args:
        connections: What the first, the second, … do; afterwards the job has ended.
    """

    def __init__(self, *connections: Serve) -> None:
        self.left = list(connections)
        self.port = free_port()
        self.said: list[str] = []
        self.log = io.StringIO()

    @asynccontextmanager
    async def up(self) -> AsyncIterator[None]:
        """As long as this."""
        app = web.Application()
        app.router.add_get(f"/api/jobs/{JOB}", self.details)
        app.router.add_get(f"/api/jobs/{JOB}/logs/tail", self.tail)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        try:
            yield
        finally:
            await runner.cleanup()

    async def details(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "RUNNING" if self.left else "SUCCEEDED"})

    async def tail(self, request: web.Request) -> web.WebSocketResponse:
        log = web.WebSocketResponse()
        await log.prepare(request)
        await self.left.pop(0)(log)
        await log.close()
        return log

    def follow(self, job: str = JOB) -> Coroutine[Any, Any, dict[str, Any]]:
        server = JobServer(f"http://127.0.0.1:{self.port}", {})
        return follow(server, job, self.log, lambda: None, self.said.append)


def shows(*texts: str, seconds: float = 0.0) -> Serve:
    """A connection that shows these, is then quiet for some time, and ends."""
    async def serve(log: web.WebSocketResponse) -> None:
        for text in texts:
            await log.send_str(text)
        await asyncio.sleep(seconds)
    return serve


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow_module, "PAUSES", (0.05,))


def test_each_line_comes_once_whatever_the_connections_hold() -> None:
    jobs = Jobs(shows("a\n", "b"), shows("a", "\nb", "\nc\n"), shows("a\nb\nc\n", "d\n"))

    async def course() -> dict[str, Any]:
        async with jobs.up():
            return await jobs.follow()

    assert asyncio.run(course()) == {"status": "SUCCEEDED"}
    assert jobs.log.getvalue() == "a\nb\nc\nd\n"
    assert jobs.said == 2 * [
        "The connection was lost; the study goes on. Connecting again …", "Connected again."]


def test_a_head_that_does_not_come_back_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(follow_module, "HINT_SECONDS", 0.2)
    monkeypatch.setattr(follow_module, "GIVE_UP_SECONDS", 0.6)
    jobs = Jobs(shows("a\n"), shows())

    async def course() -> None:
        async with jobs.up():
            following = asyncio.create_task(jobs.follow())
            while not jobs.log.getvalue():
                await asyncio.sleep(0.01)
        await following

    with pytest.raises(Refused, match="no answer for an hour. If the cluster's head was lost"):
        asyncio.run(course())
    assert [text.split(".")[0] for text in jobs.said] \
        == ["The connection was lost; the study goes on", "No answer for five minutes"]
    assert "--resume. Trying on …" in jobs.said[-1]


def test_a_quiet_connection_is_not_taken_for_a_lost_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow_module, "HINT_SECONDS", 0.5)
    monkeypatch.setattr(follow_module, "GIVE_UP_SECONDS", 0.5)
    jobs = Jobs(shows("a\n", seconds=1.0), shows("a\nb\n"))

    async def course() -> None:
        begin = time.monotonic()
        async with jobs.up():
            await jobs.follow()
        assert time.monotonic() - begin > 1.0

    asyncio.run(course())
    assert jobs.log.getvalue() == "a\nb\n"


def test_a_job_that_the_server_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = Jobs()

    async def course() -> None:
        async with jobs.up():
            await jobs.follow("other")

    with pytest.raises(Refused, match="does not know job other; it may have been started anew. "
                                      "Then the same command with --resume goes on"):
        asyncio.run(course())
