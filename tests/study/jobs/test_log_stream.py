"""A job's log, followed from a server that is not always there."""

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientSession, web

from study.jobs import log_stream as follow_module
from study.jobs.log_stream import JobRefusedError, JobServer, follow
from tests.support.ray_head import free_port

JOB = "study-1"
Serve = Callable[[web.WebSocketResponse], Awaitable[None]]


class Jobs:
    """A job server, whose connections each show the log in a way of their own.

    Args:
        connections: What the first, the second, … do; afterwards the job has ended.
    """

    def __init__(self, *connections: Serve) -> None:
        self.left = list(connections)
        self.after = shows()
        """What a connection does once they are used up."""
        self.num_connections = 0
        self.is_frozen = False
        self.status = 200
        self.num_refused = 0
        self.port = free_port()
        self.said: list[str] = []
        self.log = io.StringIO()

    @asynccontextmanager
    async def up(self) -> AsyncIterator[None]:
        """As long as this."""
        app = web.Application()
        app.router.add_get(f"/api/jobs/{JOB}", self.details)
        app.router.add_get(f"/api/jobs/{JOB}/logs/tail", self.tail)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        try:
            yield
        finally:
            await runner.cleanup()

    async def details(self, request: web.Request) -> web.Response:
        while self.is_frozen:
            await asyncio.sleep(0.01)
        if self.status != 200:
            self.num_refused += 1
            return web.Response(status=self.status)
        return web.json_response({"status": "RUNNING" if self.left else "SUCCEEDED"})

    async def tail(self, request: web.Request) -> web.StreamResponse:
        if self.status != 200:
            self.num_refused += 1
            return web.Response(status=self.status)
        log = web.WebSocketResponse()
        await log.prepare(request)
        self.num_connections += 1
        await (self.left.pop(0) if self.left else self.after)(log)
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


def breaks(text: str) -> Serve:
    """A connection that shows it and then is gone without a word."""

    async def serve(log: web.WebSocketResponse) -> None:
        await log.send_str(text)
        assert log._req is not None and log._req.transport is not None
        log._req.transport.abort()

    return serve


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow_module, "PAUSES", (0.05,))
    monkeypatch.setattr(follow_module, "QUIET_SECONDS", 0.1)


def finish(course: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    """Runs it, if it does not take the time that libraries have by themselves."""
    return asyncio.run(asyncio.wait_for(course, 10.0))  # type: ignore[arg-type]


async def whole(jobs: Jobs) -> dict[str, Any]:
    """Follows the job while the server is up."""
    async with jobs.up():
        return await jobs.follow()


async def until(what: Callable[[], object]) -> None:
    while not what():
        await asyncio.sleep(0.01)


LOST = "The connection was lost; the study keeps running. Reconnecting …"
FOUND = "Reconnected."


def test_each_line_comes_once_whatever_the_connections_hold() -> None:
    jobs = Jobs(shows("a\n", "b"), shows("a", "\nb", "\nc\n"), shows("a\nb\nc\n", "d\n"))
    assert finish(whole(jobs)) == {"status": "SUCCEEDED"}
    assert jobs.log.getvalue() == "a\nb\nc\nd\n"
    assert jobs.said == []  # the server was there all the time


def test_a_server_that_comes_back_is_found_again() -> None:
    jobs = Jobs(shows("a\n", seconds=60.0), shows("a\nb\n"))

    async def course() -> dict[str, Any]:
        async with jobs.up():
            following = asyncio.create_task(jobs.follow())
            await until(jobs.log.getvalue)
        await until(lambda: jobs.said)
        async with jobs.up():
            return await following

    assert finish(course()) == {"status": "SUCCEEDED"}
    assert jobs.log.getvalue() == "a\nb\n"
    assert jobs.said == [LOST, FOUND]


@pytest.mark.slow
def test_a_server_that_does_not_come_back_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(follow_module, "HINT_SECONDS", 0.2)
    monkeypatch.setattr(follow_module, "GIVE_UP_SECONDS", 3.0)
    jobs = Jobs(shows("a\n", seconds=60.0), shows())

    async def course() -> dict[str, Any]:
        async with jobs.up():
            following = asyncio.create_task(jobs.follow())
            await until(jobs.log.getvalue)
        return await following

    with pytest.raises(
        JobRefusedError, match="no answer for an hour. If the head of the cluster is lost"
    ):
        finish(course())
    assert [text.split(".")[0] for text in jobs.said] == [
        LOST.split(".")[0],
        "No answer for five minutes",
    ]
    assert "--resume. Still trying …" in jobs.said[-1]


def test_a_quiet_log_keeps_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    connect, options = ClientSession.ws_connect, []

    def noted(session: ClientSession, *arguments: Any, **named: Any) -> Any:
        options.append(named)
        return connect(session, *arguments, **named)

    monkeypatch.setattr(ClientSession, "ws_connect", noted)
    jobs = Jobs(shows("a\n", seconds=1.0), shows("a\n"))
    finish(whole(jobs))
    assert jobs.num_connections == len(options) == 2 and jobs.said == []
    assert not any("heartbeat" in each for each in options)  # Ray's server answers no ping


def test_a_connection_that_stays_quiet_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow_module, "STALE_SECONDS", 0.3)
    jobs = Jobs(shows("a\n", seconds=60.0), shows("a\nb\n"))
    finish(whole(jobs))
    assert jobs.log.getvalue() == "a\nb\n" and jobs.said == []


@pytest.mark.parametrize("dead", [shows("a\n", seconds=60.0), breaks("a\n")])
def test_the_end_of_the_log_comes_by_a_new_connection_if_the_old_one_is_dead(dead: Serve) -> None:
    jobs = Jobs(dead)
    jobs.after = shows("a\nb\n")
    finish(whole(jobs))
    assert jobs.log.getvalue() == "a\nb\n" and jobs.num_connections == 2


@pytest.mark.slow
def test_a_server_that_takes_connections_and_answers_nothing_is_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(follow_module, "ANSWER_TIMEOUT_SECONDS", 0.2)
    jobs = Jobs(shows("a\n", seconds=60.0))
    jobs.after = shows("a\n", seconds=60.0)

    async def course() -> dict[str, Any]:
        async with jobs.up():
            jobs.is_frozen = True
            following = asyncio.create_task(jobs.follow())
            await until(lambda: jobs.num_connections == 4)
            assert jobs.said == [LOST]
            jobs.after = shows("a\nb\n")
            jobs.is_frozen = False
            return await following

    finish(course())
    assert jobs.log.getvalue() == "a\nb\n"
    assert jobs.said == [LOST, FOUND]


def test_something_in_between_that_answers_for_a_lost_server_is_no_answer() -> None:
    jobs = Jobs(shows("a\n", seconds=60.0), shows("a\nb\n"))

    async def course() -> dict[str, Any]:
        async with jobs.up():
            following = asyncio.create_task(jobs.follow())
            await until(jobs.log.getvalue)
            jobs.status = 502
            await until(lambda: jobs.num_refused > 3)
            jobs.status = 200
            return await following

    finish(course())
    assert jobs.log.getvalue() == "a\nb\n"
    assert jobs.said == [LOST, FOUND]


def test_a_job_that_the_server_does_not_know() -> None:
    jobs = Jobs()

    async def course() -> dict[str, Any]:
        async with jobs.up():
            return await jobs.follow("other")

    with pytest.raises(
        JobRefusedError,
        match="does not know job other; it may have been restarted. "
        "In that case resume the study with the same command and --resume.",
    ):
        finish(course())
