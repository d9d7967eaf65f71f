"""Studies that version 0.1 has left are read, exported and continued; see their README."""

import csv
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from study.analysis.stored_study import read_stored
from study.compare import main as compare
from study.config.reading import read_study
from study.export import main as export
from study.reporting.html.optuna_figures import stored_trials
from study.reporting.summary import as_json
from study.session.session import Session
from study.storage.study_folder import StudyFolder
from study.trials.records import FORMER_OUTCOMES, RecordFile, TrialRecord, read_records
from tests.support.studies import RunningStudy, figures
from trainables.configuration.former_keys import present_path
from trainables.configuration.schema import validate
from trainables.inference.classifier import load_model
from trainables.tasks.digits.digits import Digits
from trainables.trial_config import TrialConfig, pretraining_trial, read_trial_config

STORED = Path(__file__).parents[1] / "data" / "studies_0_1"
SPACE = STORED / "stored.yaml"
NAMES = ("finished", "interrupted")
RECORDS = [(name, r) for name in NAMES for r in read_records(STORED / name / "records.jsonl")]
PRETRAINED = {folder.name: folder for folder in (STORED / "cache" / "pretraining").iterdir()}

each_record = pytest.mark.parametrize(
    "name, record", [pytest.param(name, r, id=f"{name}-{r.id}") for name, r in RECORDS]
)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A copy of the stored studies and of their cache, to be written to."""
    return shutil.copytree(STORED, tmp_path / "runs")


def assert_holds(today: Any, stored: Any, place: str) -> None:
    """Fails unless all that was stored is there today, beside what was added since."""
    if isinstance(stored, dict):
        for key, value in stored.items():
            assert key in today, f"{place}/{key} is gone"
            assert_holds(today[key], value, f"{place}/{key}")
    elif isinstance(stored, list):
        assert len(today) == len(stored), place
        for index, (now, then) in enumerate(zip(today, stored, strict=True)):
            assert_holds(now, then, f"{place}/{index}")
    elif isinstance(stored, float):
        assert today == pytest.approx(stored, rel=1e-12), place
    else:
        assert today == stored, place


def result(name: str) -> dict[str, Any]:
    """The final table that version 0.1 wrote, what was renamed since by its present name."""
    table = json.loads((STORED / name / "result.json").read_text())
    for row in table["rows"]:
        row["outcomes"] = {FORMER_OUTCOMES.get(o, o): n for o, n in row["outcomes"].items()}
        row["params"] = {present_path(path): value for path, value in row["params"].items()}
    return table


# Identities


def test_the_data_are_what_the_tests_need() -> None:
    outcomes = {name: [r.outcome for n, r in RECORDS if n == name] for name in NAMES}
    assert len(outcomes["finished"]) == 10 and len(outcomes["interrupted"]) == 4
    assert all({"complete", "pruned"} == set(found) for found in outcomes.values())
    assert len(PRETRAINED) == 2


@each_record
def test_identities_stay_equal(name: str, record: TrialRecord) -> None:
    config = validate(TrialConfig, record.config)
    assert config.identity() == record.identity
    assert pretraining_trial(config).identity() in PRETRAINED
    kept = read_trial_config(STORED / name / "trials" / record.id / "trial.yaml")
    assert kept.identity() == record.identity


@pytest.mark.parametrize("identity", PRETRAINED)
def test_a_pretraining_folder_is_named_after_its_trial(identity: str) -> None:
    assert read_trial_config(PRETRAINED[identity] / "trial.yaml").identity() == identity


def test_a_trial_like_a_stored_one_takes_over_its_record(runs: Path) -> None:
    study_folder = StudyFolder(runs / "interrupted")
    stored = {r.id: r for r in read_records(study_folder.records)}
    assert set(RecordFile(study_folder.records).by_identity) == {
        r.identity for r in stored.values()
    }
    with pytest.warns(FutureWarning, match="The former name is read until 0.3"):
        study, space = read_study(str(SPACE), [])
    session = Session(study, space, study_folder)
    session.search.enqueue(stored["0001"].params)
    handed_out = []
    while len(session.records) == len(stored):  # those that were drawn before come first
        trial = session.next_trial()
        assert trial is not None
        handed_out.append(trial.id)
    (taken,) = (record for record in session.records if record.id not in stored)
    assert taken.same_as == "0001" and taken.id not in handed_out
    assert taken.identity == stored["0001"].identity
    assert taken.evaluations == stored["0001"].evaluations
    assert taken.objective == stored["0001"].objective


def test_a_stored_journal_keeps_its_names_so_that_the_sampler_sees_its_values(
    runs: Path,
) -> None:
    study_folder = StudyFolder(runs / "interrupted")
    with pytest.warns(FutureWarning, match="The former name is read until 0.3"):
        study, space = read_study(str(SPACE), [])
    search = Session(study, space, study_folder).search
    drawn = search.ask()
    stored = search.optuna_study.trials
    assert all("optimizer/backbone_multiplier" in trial.params for trial in stored if trial.params)
    assert (
        stored[drawn.number].params["optimizer/backbone_multiplier"]
        == (drawn.params["optimizer/backbone_lr_multiplier"])
    )
    shown = stored_trials(study_folder.journal)
    assert all("optimizer/backbone_lr_multiplier" in t.distributions for t in shown if t.params)


# Compare and export


@pytest.mark.parametrize("name", NAMES)
def test_compare_finds_the_stored_result(
    name: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = read_stored(runs / name)
    assert_holds(as_json(study.comparisons["digits"]), result(name), name)
    assert compare([str(runs / name), "--format", "json"]) == 0
    table = capsys.readouterr().out
    for row in result(name)["rows"]:
        assert f'"name": "{row["name"]}"' in table


def test_export_writes_a_winner_that_predicts_as_before(
    runs: Path, digits_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export([str(runs / "finished")]) == 0
    folder = Path(capsys.readouterr().out.strip())
    identity = read_trial_config(folder / "trial.yaml").identity()
    (winner,) = (r for name, r in RECORDS if name == "finished" and r.identity == identity)
    assert winner.id == "final-dann-seed1"  # the better of the two by the criterion
    with (STORED / "finished" / "trials" / winner.id / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    small = validate(Digits.Config, {"num_source": 20, "num_test": 10})  # the target is the same
    target = Digits.load(small, digits_cache).target_train
    assert target is not None and len(target) == len(rows)
    found = load_model(folder).probabilities([target.images[i] for i in range(len(target))])
    top = found.max(dim=1)
    for i, row in enumerate(rows):
        assert target.images.name(i) == row["image"]
        assert float(top.values[i]) == pytest.approx(float(row["probability"]), abs=2e-5)
        assert float(found[i, int(row["class"])]) == pytest.approx(float(top.values[i]), abs=2e-5)


# Going on


@pytest.mark.slow
def test_an_interrupted_study_goes_on(runs: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "study.run",
        "--space",
        str(SPACE),
        "--out",
        str(runs),
        "--name",
        "interrupted",
        "--resume",
    ]
    earlier = (runs / "interrupted" / "records.jsonl").read_bytes()
    study = RunningStudy(command, runs / "interrupted")
    finished = study.finish()
    assert finished.code == 0, finished.stdout + finished.stderr
    assert (study.folder / "records.jsonl").read_bytes().startswith(earlier)
    records = study.records()
    assert list(records)[:8] == [f"{number:04d}" for number in range(8)]
    assert set(list(records)[8:]) == {"final-no_adaptation-seed1", "final-dann-seed1"}
    for name, record in RECORDS:
        if name == "interrupted":
            assert figures(records[record.id]) == figures(record)
            assert f"{record.id} {record.method} starts" not in study.log()
        elif record.stage == "search":  # the same draws, for they depend on seed and number
            assert records[record.id].params == record.params
            assert records[record.id].identity == record.identity
    made = {folder.name for folder in (runs / "cache" / "pretraining").iterdir()}
    assert made == set(PRETRAINED)
    for identity, folder in PRETRAINED.items():
        weights = runs / "cache" / "pretraining" / identity / "best.pt"
        assert weights.read_bytes() == (folder / "best.pt").read_bytes()
    written = yaml.safe_load((runs / "interrupted" / "study.yaml").read_text())
    assert_holds(
        written, yaml.safe_load((STORED / "interrupted" / "study.yaml").read_text()), "study.yaml"
    )
