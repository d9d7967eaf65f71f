"""A study in an object store whose machine is lost in the middle of a trial."""

import io
import json
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from study.compare import main as compare
from study.storage.remote_log import read_parts
from study.trials.records import TrialRecord
from tests.support.stores import BUCKET, Bucket, running_bucket
from tests.support.studies import (
    Finished,
    RunningStudy,
    figures,
    overrides,
    resume,
    run_without_ray,
    start,
    wait_until_gone,
)
from trainables.checkpointing.object_store import Store

pytestmark = pytest.mark.slow

PLACE = f"s3://{BUCKET}/runs"
KEY = "runs/tiny"
ARGUMENTS = overrides(num_trials=2, concurrency=1, pruner="none", fixed__schedule__num_epochs=8)
"""Trials one at a time have the same numbers however often they are interrupted."""


@dataclass
class Lost:
    """A study, what the store had when its machine was lost, and how another one ended it."""

    bucket: Bucket
    study: RunningStudy
    records_before: bytes
    checkpoint_before: dict[str, Any]
    end: Finished

    def records_after(self) -> bytes:
        return read_parts(Store.open(f"{PLACE}/tiny/records.jsonl.parts"))[0]


@pytest.fixture(scope="module")
def lost(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lost]:
    out = tmp_path_factory.mktemp("lost")
    with pytest.MonkeyPatch.context() as patch, running_bucket(patch) as bucket:
        bucket.client().put_bucket_versioning(
            Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"}
        )
        study = start(out, "tiny", "--storage", PLACE, *ARGUMENTS)
        study.wait_for(lambda: bucket.keys(f"{KEY}/trials/0001/latest.pt"))
        processes = study.processes()
        study.end_by(signal.SIGKILL)
        wait_until_gone(processes)
        before = read_parts(Store.open(f"{PLACE}/tiny/records.jsonl.parts"))[0]
        checkpoint = checkpoints(bucket, "0001")[-1]
        shutil.rmtree(out)
        study = resume(study)
        yield Lost(bucket, study, before, checkpoint, study.finish())


def checkpoints(bucket: Bucket, trial_id: str) -> list[dict[str, Any]]:
    """The progress in every checkpoint that a trial has stored, also those that were replaced."""
    client, key = bucket.client(), f"{KEY}/trials/{trial_id}/latest.pt"
    found = client.list_object_versions(Bucket=BUCKET, Prefix=key)["Versions"]
    contents = [
        client.get_object(Bucket=BUCKET, Key=key, VersionId=version["VersionId"])["Body"].read()
        for version in found
    ]
    progress = [
        torch.load(io.BytesIO(content), weights_only=True)["progress"] for content in contents
    ]
    return sorted(progress, key=lambda each: int(each["evaluation"]))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrialRecord]:
    records = run_without_ray(tmp_path_factory.mktemp("uninterrupted"), "tiny", *ARGUMENTS)
    return {record.id: record for record in records}


def test_no_trial_is_lost_or_run_twice(lost: Lost, uninterrupted: dict[str, TrialRecord]) -> None:
    assert (lost.end.code, lost.end.stderr) == (0, "")
    records = lost.study.records()
    assert {i: figures(r) for i, r in records.items()} == {
        i: figures(r) for i, r in uninterrupted.items()
    }


def test_records_of_trials_that_had_ended_are_kept_to_the_byte(lost: Lost) -> None:
    assert [json.loads(line)["id"] for line in lost.records_before.splitlines()] == ["0000"]
    assert lost.records_after().startswith(lost.records_before)
    assert lost.records_after() == (lost.study.folder / "records.jsonl").read_bytes()


def test_the_trial_under_way_goes_on_from_its_checkpoint(lost: Lost) -> None:
    """Its reports carry the seconds that they took: one done again would show others."""
    kept = lost.checkpoint_before["reports"]
    versions = checkpoints(lost.bucket, "0001")
    assert 1 <= len(kept) < len(versions[-1]["reports"])
    for version in versions:
        number = min(len(kept), len(version["reports"]))
        assert version["reports"][:number] == kept[:number]


def test_the_store_holds_what_lasts_and_nothing_else(lost: Lost) -> None:
    finals = [name for name in lost.study.records() if name.startswith("final")]
    trials = {key.removeprefix(f"{KEY}/trials/") for key in lost.bucket.keys(f"{KEY}/trials/")}
    assert {name for name in trials if name.endswith(".pt")} == {
        f"{name}/best.pt" for name in finals
    }
    assert {f"{name}/trial.yaml" for name in lost.study.records()} <= trials
    assert {f"{name}/predictions.csv" for name in finals} <= trials
    rest = {key.removeprefix(f"{KEY}/").split("/")[0] for key in lost.bucket.keys(KEY)}
    assert rest == {
        "environment.json",
        "optuna.journal.parts",
        "records.jsonl.parts",
        "result.json",
        "study.log.parts",
        "study.yaml",
        "tensorboard",
        "trials",
    }
    assert any(key.endswith("/done") for key in lost.bucket.keys("runs/cache/pretraining/"))


def test_the_closing_lines_name_the_store(lost: Lost) -> None:
    assert (
        f"checkpoints are in {PLACE}/tiny\n(tensorboard --logdir {PLACE}/tiny/tensorboard)"
        in lost.end.stdout
    )


def test_comparisons_read_the_store(lost: Lost, capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for place in (f"{PLACE}/tiny", str(lost.study.folder)):
        assert compare([place, "--format", "json"]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert json.loads(texts[0])


def test_tensorboard_reads_the_store(lost: Lost) -> None:
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer

    events = EventMultiplexer()
    events.AddRunsFromDirectory(f"{PLACE}/tiny/tensorboard")
    events.Reload()
    assert set(events.Runs()) >= set(lost.study.records())
