"""A study on a cluster that loses one of its two worker nodes, with token authentication on."""

import json
import os
import secrets
import subprocess
import sys
import tempfile
from typing import Any

import pytest

from tests.cluster.files import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(1, id="one worker"),
        pytest.param(2, id="two workers", marks=pytest.mark.cluster),
    ],
)  # twice as long
def course(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What a study came to, whose trials have one worker or two."""
    folder = tmp_path_factory.mktemp("loss")
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    with tempfile.TemporaryDirectory(prefix="s2r-") as scratch:
        done = subprocess.run(
            [sys.executable, "-m", "tests.cluster.losing_a_node", folder, str(request.param)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=540,
            check=False,
            env={
                **os.environ,
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN_PATH": str(token),
                "RAY_TMPDIR": scratch,
                "RAY_worker_niceness": "0",
            },
        )
    assert done.returncode == 0, done.stderr[-3000:]
    outcome: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return outcome


def test_all_trials_end_without_an_error(course: dict[str, Any]) -> None:
    assert {record["outcome"] for record in course["records"]} == {"complete"}
    assert [len(record["evaluations"]) for record in course["records"]] == [
        course["epochs"]
    ] * len(course["records"])


def test_what_was_on_the_lost_node_went_on_once(course: dict[str, Any]) -> None:
    assert sum(record["restarts"] for record in course["records"]) == 1


def test_no_epoch_was_trained_again(course: dict[str, Any]) -> None:
    assert course["before"].keys() == course["after"].keys() != set()
    for trial, before in course["before"].items():
        kept = course["after"][trial]["reports"][: before["evaluation"]]
        assert before["evaluation"] > 0
        assert kept == before["reports"]  # with the seconds that they took
