"""A study as a job of a cluster that grows with it, through a connection that is lost."""

import json
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from study.run import main
from study.trials.records import read_records
from tests.support.proxy import Proxy
from tests.support.ray_head import RayHead, free_port
from tests.support.studies import DEADLINE_SECONDS, TINY, overrides

SETTINGS = overrides(
    num_trials=5,
    final_seeds=0,
    concurrency="auto",
    pruner="none",
    fixed__initialization="none",
    fixed__schedule__num_epochs=8,
    search__method__choice="{no_adaptation: {}, dann: {}}",
)


# What is wrong


@pytest.mark.parametrize(
    "arguments, line",
    [
        (
            ["--storage", "runs"],
            "--storage: is required on a cluster, as s3://BUCKET/PREFIX or the absolute path of a "
            "folder that all its machines see, got runs.",
        ),
        (["--address", "http://127.0.0.1:1"], "--cluster and --address: give only one of them."),
        (["--trials", "0"], "--set: num_trials: must be greater than 0, got 0."),
        ([], "--cluster nowhere.yaml: no such file. Give the one that `ray up` was given."),
    ],
)
def test_a_mistake_shows_before_anything_is_sent(
    arguments: list[str],
    line: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert (
        main(
            ["--space", str(TINY), "--storage", "/shared", "--cluster", "nowhere.yaml", *arguments]
        )
        == 2
    )
    assert capsys.readouterr().err == f"{line}\n"


def test_nobody_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_AUTH_MODE"):
        monkeypatch.setenv(name, "disabled")
    address = f"http://127.0.0.1:{free_port()}"
    assert main(["--space", str(TINY), "--storage", "/shared", "--address", address]) == 2
    assert capsys.readouterr().err == (
        f"{address}: no job server answers. Check that the cluster is up and that a tunnel is "
        "open (ray dashboard FILE), or let --cluster FILE open one.\n"
    )


# A cluster


@dataclass
class Client:
    """``study.run --address``, and what it has shown so far."""

    process: "subprocess.Popen[str]"
    shown: str = ""
    remarks: str = ""
    readers: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        for stream, name in ((self.process.stdout, "shown"), (self.process.stderr, "remarks")):
            reader = threading.Thread(target=self._read, args=(stream, name), daemon=True)
            reader.start()
            self.readers.append(reader)

    def _read(self, stream: Iterator[str], name: str) -> None:
        for line in stream:
            setattr(self, name, getattr(self, name) + line)

    def wait_for(self, what: Callable[[], object]) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not what():
            assert time.monotonic() < deadline, self.shown + self.remarks
            if self.process.poll() is not None:
                self.end()
                raise AssertionError(self.shown + self.remarks)
            time.sleep(0.02)

    def end(self) -> int:
        code = self.process.wait(DEADLINE_SECONDS)
        for reader in self.readers:
            reader.join()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        return code


@dataclass
class Place:
    """A cluster, a way to it, and a folder for studies."""

    head: RayHead
    proxy: Proxy
    out: Path

    def study(self, *arguments: str, **environment: str) -> Client:
        return Client(
            subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "study.run",
                    "--space",
                    str(TINY),
                    "--name",
                    "tiny",
                    "--storage",
                    str(self.out),
                    "--address",
                    self.proxy.address,
                    *SETTINGS,
                    *arguments,
                ],
                env={**self.head.client_environment, **environment},
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        )

    def ask(self, path: str, post: bool = False) -> dict[str, str]:
        request = urllib.request.Request(
            f"{self.head.jobs}/api/jobs/{path}",
            headers={"Authorization": f"Bearer {self.head.token.read_text()}"},
            method="POST" if post else "GET",
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            found: dict[str, str] = json.load(answer)
            return found

    def log(self, job: str) -> str:
        return self.ask(f"{job}/logs")["logs"]


@dataclass
class Course:
    """What happened, in order."""

    place: Place
    refused: Client
    cut: Client
    second: Client
    followed: Client
    resumed: Client
    first_log: str
    second_log: str
    processes: list[str]


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Course]:
    head = RayHead()
    try:
        proxy = Proxy(head.dashboard)
        proxy.mend()
        place = Place(head, proxy, tmp_path_factory.mktemp("shared") / "runs")
        refused = place.study(RAY_AUTH_TOKEN_PATH="", RAY_AUTH_TOKEN="0" * 64)
        refused.end()
        cut = place.study()
        cut.wait_for(lambda: " starts (search)" in cut.shown)
        proxy.cut()
        cut.wait_for(lambda: "The connection was lost" in cut.remarks)
        proxy.mend()
        cut.wait_for(lambda: "Reconnected" in cut.remarks)
        second = place.study()
        second.end()
        cut.process.send_signal(signal.SIGINT)
        cut.end()
        followed = place.study("--resume")
        followed.wait_for(lambda: " done" in followed.shown)
        place.ask("tiny-1/stop", post=True)
        followed.end()
        first_log = place.log("tiny-1")
        resumed = place.study("--resume")
        resumed.end()
        yield Course(
            place,
            refused,
            cut,
            second,
            followed,
            resumed,
            first_log,
            place.log("tiny-2"),
            head.processes(),
        )
    finally:
        head.close()


@pytest.mark.cluster
@pytest.mark.timeout(1200)
class TestCourse:
    def test_without_the_token_nothing_starts(self, course: Course) -> None:
        assert course.refused.end() == 2
        assert course.refused.shown == ""
        assert course.refused.remarks == (
            f"{course.place.proxy.address}: the cluster requires a token, and the one here is "
            "missing or wrong. Put the token of the cluster into ~/.ray/auth_token.\n"
        )

    def test_trials_wait_for_machines_and_are_as_many_as_these_may_be(
        self, course: Course
    ) -> None:
        assert "Waiting for machines for the first trial …\n" in course.first_log
        assert (
            "Trials: 2 at a time, each on 1 CPU: 1 × head (0 CPU, 2 trial_slot), "
            "up to 2 × worker (1 CPU)\n"
        ) in course.first_log

    def test_a_lost_connection_loses_and_repeats_no_line(self, course: Course) -> None:
        assert course.cut.remarks.count("The connection was lost") == 1
        assert course.first_log.startswith(course.cut.shown)
        assert course.first_log == course.followed.shown

    def test_ctrl_c_leaves_the_study_running(self, course: Course) -> None:
        assert course.cut.end() == 130
        assert "The study keeps running." in course.cut.remarks
        assert "\n  ray job stop --address " in course.cut.remarks
        assert "Following job tiny-1" in course.followed.remarks

    def test_a_study_does_not_run_twice(self, course: Course) -> None:
        assert course.second.end() == 2
        assert course.second.remarks == (
            "tiny: already running on this cluster as job tiny-1. Follow it with --resume, or "
            "choose another --name.\n"
        )

    def test_a_stopped_study_ends_cleanly_and_goes_on(self, course: Course) -> None:
        assert course.followed.end() == 130
        assert "Interrupted. To resume, start it in the same way" in course.first_log
        assert course.resumed.end() == 0
        assert course.resumed.shown == course.second_log
        records = read_records(course.place.out / "tiny" / "records.jsonl")
        assert sorted(record.id for record in records) == [f"{i:04}" for i in range(5)]
        assert {record.outcome for record in records} == {"complete"}

    def test_the_cluster_is_left_as_it_was(self, course: Course) -> None:
        assert any("raylet" in title for title in course.processes)
        assert not [title for title in course.processes if "Trainable" in title]

    def test_the_token_is_in_no_file(self, course: Course) -> None:
        token = course.place.head.token.read_bytes()
        folders = (course.place.out, *course.place.head.scratch.glob("ray*"))
        found = [
            path
            for folder in folders
            for path in folder.rglob("*")
            if path.is_file() and not path.is_symlink() and token in path.read_bytes()
        ]
        assert found == []
