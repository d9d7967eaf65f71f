"""Optuna's own dashboard opens a study's storage."""

import json
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from study.session.ask_tell import STATES
from study.storage.study_folder import StudyFolder
from study.trials.records import read_records
from tests.support.stored_studies import run_fake

pages = pytest.importorskip("benchmarks.pages", reason="playwright is missing")
pytest.importorskip("optuna_dashboard")

COMMAND = Path(sys.executable).with_name("optuna-dashboard")


def answer(address: str) -> Any:
    with urlopen(address, timeout=30) as reply:
        return json.loads(reply.read())


@pytest.mark.slow
def test_the_dashboard_shows_the_study_s_trials(tmp_path: Path) -> None:
    study_folder = StudyFolder(run_fake(tmp_path / "study"))
    records = {record.id: record for record in read_records(study_folder.records)}
    with pages.server([str(COMMAND), str(study_folder.journal)], "/api/studies") as address:
        (summary,) = answer(f"{address}/api/studies")["study_summaries"]
        assert (summary["study_name"], summary["directions"]) == ("study", ["maximize"])
        study = answer(f"{address}/api/studies/{summary['study_id']}?after=0")
    assert len(study["trials"]) == 10
    for trial in study["trials"]:
        record = records[f"{trial['number']:04d}"]
        assert trial["state"].upper() == STATES[record.outcome].name
        shown = {param["name"]: param["param_external_value"] for param in trial["params"]}
        assert shown == {name: str(value) for name, value in record.params.items()}
        if record.outcome == "complete":
            assert trial["values"] == [record.objective]
