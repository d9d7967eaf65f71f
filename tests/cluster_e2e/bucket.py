"""What a study has put into the bucket."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from study.storage.remote_log import read_parts
from study.storage.sync import parts_of
from study.trials.records import TrialRecord
from tests.cluster.clouds import BUCKET
from tests.cluster_e2e.leaks import wait_for
from trainables.checkpointing.object_store import Store

STORAGE = f"s3://{BUCKET}/runs"
NAME = "study"


@dataclass
class Bucket:
    """The files of the study in :data:`STORAGE`."""

    s3: Any

    def keys(self) -> list[str]:
        """All objects of the bucket."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def read(self, key: str) -> bytes | None:
        """An object, if there is one."""
        try:
            content: bytes = self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        except self.s3.exceptions.NoSuchKey:
            return None
        return content

    def records(self) -> dict[str, TrialRecord]:
        """By trial, in the order in which they ended."""
        content, _ = read_parts(parts_of(Store.open(f"{STORAGE}/{NAME}"), Path("records.jsonl")))
        records = [TrialRecord.model_validate_json(line) for line in content.splitlines()]
        assert len({record.id for record in records}) == len(records)
        return {record.id: record for record in records}

    def progress(self, trial: str) -> dict[str, Any]:
        """How far a trial has got that is under way, and its reports, by its checkpoint."""
        content = self.read(f"runs/{NAME}/trials/{trial}/latest.pt")
        if content is None:
            return {}
        progress: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True)["progress"]
        return progress

    def wait_for_evaluations(self, trial: str, count: int, seconds: float) -> dict[str, Any]:
        """Waits until a trial has a checkpoint of so many evaluations; returns its progress."""
        found: list[dict[str, Any]] = []

        def is_there() -> bool:
            found[:] = [self.progress(trial)]
            assert trial not in self.records(), f"{trial} ended too early"
            return bool(found[0].get("evaluation", 0) >= count)

        wait_for(is_there, seconds, f"evaluation {count} of {trial}")
        return found[0]
