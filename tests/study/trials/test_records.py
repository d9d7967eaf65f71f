"""Records of ended trials and the file that holds them."""

import json
import os
from pathlib import Path

import pytest

from study.trials.records import RecordFile, TrialRecord, read_records
from tests.support.fake_trials import make_record
from trainables.configuration.schema import ConfigError, validate
from trainables.trial_config import TrialConfig

FIRST = make_record("0000", [0.25, 0.5, 0.375], oracle=[0.1, 0.2, 0.3])
SECOND = make_record("0001", [], outcome="failed")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "records.jsonl"


def test_records_are_read_as_they_were_written(file: Path) -> None:
    writer = RecordFile(file)
    for record in (FIRST, SECOND):
        writer.append(record)
    assert read_records(file) == [FIRST, SECOND]
    assert list(RecordFile(file).records.values()) == [FIRST, SECOND]


def test_numbers_survive_bit_for_bit(file: Path) -> None:
    record = make_record("0000", [0.1 + 0.2, 1e-300, 1 / 3])
    RecordFile(file).append(record)
    assert [
        evaluation.metrics["criterion/bnm"] for evaluation in read_records(file)[0].evaluations
    ] == [0.1 + 0.2, 1e-300, 1 / 3]


def test_each_record_is_one_line_of_json(file: Path) -> None:
    writer = RecordFile(file)
    writer.append(FIRST)
    writer.append(SECOND.model_copy(update={"reason": "two\nlines\u2028three\x85four"}))
    lines = file.read_bytes().split(b"\n")
    assert len(lines) == 3 and lines[2] == b""
    assert json.loads(lines[1])["reason"] == "two\nlines\u2028three\x85four"
    assert len(read_records(file)) == 2


def test_a_record_is_on_the_disk_when_append_returns(
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    synced = []
    monkeypatch.setattr(
        os,
        "fsync",
        lambda descriptor: synced.append(
            (os.readlink(f"/proc/self/fd/{descriptor}"), file.read_bytes())
        ),
    )
    RecordFile(file).append(FIRST)
    assert synced == [(str(file), FIRST.model_dump_json().encode() + b"\n")]


def test_a_torn_last_line_does_not_count(file: Path) -> None:
    RecordFile(file).append(FIRST)
    whole = file.read_bytes()
    file.write_bytes(whole + whole[:-7])
    assert read_records(file) == [FIRST]
    assert file.read_bytes() == whole + whole[:-7], "a reader changes nothing"


def test_a_torn_last_line_gives_way_to_the_next_record(file: Path) -> None:
    RecordFile(file).append(FIRST)
    file.write_bytes(file.read_bytes() + b'{"id": "00')
    RecordFile(file).append(SECOND)
    assert read_records(file) == [FIRST, SECOND]


def test_a_torn_first_line_leaves_nothing(file: Path) -> None:
    file.write_bytes(b'{"id": "00')
    assert RecordFile(file).records == {} and file.read_bytes() == b""


def test_a_study_without_records_has_none(file: Path) -> None:
    assert read_records(file) == [] and RecordFile(file).records == {}
    assert not file.exists()


@pytest.mark.parametrize(
    "line, message",
    [
        ("{", "Expecting property name"),
        ("{}", "id: is required and missing."),
        ('{"id": 3}', "id: must be a valid string, got 3."),
    ],
)
def test_a_damaged_line_is_named(file: Path, line: str, message: str) -> None:
    RecordFile(file).append(FIRST)
    with file.open("a") as text:
        text.write(line + "\n")
    with pytest.raises(ValueError) as caught:
        read_records(file)
    assert str(caught.value).startswith(f"{file}:2: not a trial record (")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_trial_has_one_record(file: Path) -> None:
    writer = RecordFile(file)
    writer.append(FIRST)
    with pytest.raises(AssertionError, match="0000 is recorded already"):
        writer.append(FIRST)


def test_selected_are_the_metrics_of_the_best_evaluation() -> None:
    assert FIRST.best_evaluation == 2
    assert FIRST.selected() == {
        "criterion/bnm": 0.5,
        "source_val/accuracy": 0.9,
        "loss/classification": 0.1,
        "criterion/oracle": 0.2,
    }
    assert SECOND.selected() == {}


def test_a_record_holds_its_trial_s_whole_configuration() -> None:
    config = validate(TrialConfig, json.loads(FIRST.model_dump_json())["config"])
    assert config.identity() == FIRST.identity


def test_infinite_figures_are_no_record() -> None:
    with pytest.raises(ValueError, match="finite"):
        TrialRecord.model_validate({**FIRST.model_dump(), "objective": float("inf")})


def test_a_record_by_version_0_1_has_the_present_names() -> None:
    """Its condition too, which names a compared setting."""
    record = make_record("0000", [0.5], params={"optimizer/learning_rate": 0.1})
    former = {
        **record.model_dump(mode="json"),
        "outcome": "stopped",
        "condition": "dann · accumulation 1",
        "params": {"method": "dann", "accumulation": 1},
    }
    former["least_objective"] = former.pop("objective_floor")
    read = validate(TrialRecord, former)
    assert (read.outcome, read.condition) == ("pruned", "dann · gradient_accumulation_steps 1")
    assert read.params == {"method": "dann", "gradient_accumulation_steps": 1}


@pytest.mark.parametrize("condition", [None, 5])
def test_a_record_without_a_condition_is_refused(condition: object) -> None:
    """Such as those of before 0.1; none is made up."""
    values = {**make_record("0000", [0.5]).model_dump(mode="json"), "condition": condition}
    with pytest.raises(ConfigError, match="^condition: must be a valid string"):
        validate(TrialRecord, values)
    del values["condition"]
    with pytest.raises(ConfigError, match="^condition: is required and missing"):
        validate(TrialRecord, values)
