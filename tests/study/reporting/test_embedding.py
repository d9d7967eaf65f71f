"""The picture of features: what is drawn is what the selected network computes."""

from pathlib import Path

import pytest
import torch
from matplotlib import image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from study.embed import main
from study.reporting.embedding import Embedding, draw, embed
from study.storage.study_folder import StudyFolder
from study.trials.records import RecordFile, TrialRecord
from study.trials.running_trial import RunningTrial, make_record
from tests.support.stored_studies import describe
from trainables.configuration.schema import validate
from trainables.inference.trained_method import load_trained
from trainables.training.domains import open_domains
from trainables.training.trial import run_trial
from trainables.trial_config import TrialConfig

CONFIG = {
    "task": {"digits": {"num_source": 200, "num_test": 20}},
    "backbone": {"small_cnn": {"width": 4, "feature_dim": 16}},
    "optimizer": {"algorithm": "adamw", "learning_rate": 1e-3},
    "schedule": {"num_epochs": 1},
    "evaluation": {"test": True},
    "seed": 1,
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyFolder, TrialRecord, Path]:
    """A study's folder with one final run in it."""
    out = tmp_path_factory.mktemp("runs")
    study_folder, cache = describe(out / "study"), out / "cache"
    trial = RunningTrial(
        "final-no_adaptation-seed1", "final", "no_adaptation", validate(TrialConfig, CONFIG)
    )
    trial.reports += run_trial(trial.config, study_folder.trial(trial.id), cache)
    record = make_record(trial, "complete", None)
    RecordFile(study_folder.records).append(record)
    return study_folder, record, cache


def test_features_are_those_of_the_selected_network(
    study: tuple[StudyFolder, TrialRecord, Path],
) -> None:
    study_folder, record, cache = study
    embedding = embed(record, study_folder, cache)
    config = validate(TrialConfig, record.config)
    domains = open_domains(config, cache)
    meter = load_trained(config, study_folder.trial(record.id), domains)
    whole, _ = meter.predict(domains.source_val.images)
    assert not embedding.predicted and int(embedding.is_target.sum()) == 300
    drawn = embedding.features[~embedding.is_target]
    distances = torch.cdist(drawn, whole.features)
    assert torch.equal(
        embedding.labels[~embedding.is_target], domains.source_val.labels[distances.argmin(dim=1)]
    )
    assert float(distances.min(dim=1).values.max()) < 1e-4


@pytest.mark.slow
def test_command_writes_pictures_and_the_projector(
    study: tuple[StudyFolder, TrialRecord, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    study_folder, record, _ = study
    assert main([str(study_folder.root)]) == 0
    path = study_folder.root / "embedding-no_adaptation.png"
    assert capsys.readouterr().out.strip() == str(path)
    assert image.imread(path).shape[:2] == (770, 880)
    rows = (
        next((study_folder.tensorboard / record.id).rglob("metadata.tsv")).read_text().splitlines()
    )
    assert rows[0] == "class\tdomain" and len(rows) == 1 + 20 + 300
    tags = EventAccumulator(str(study_folder.tensorboard / record.id)).Reload().Tags()
    assert (tags["tensors"], tags["images"]) == ([], ["embedding"])


def test_same_seed_draws_the_same_picture(tmp_path: Path) -> None:
    rng = torch.Generator().manual_seed(0)
    embedding = Embedding(
        torch.randn(40, 5, generator=rng),
        torch.arange(40) % 4,
        torch.arange(40) >= 20,
        ("a", "b", "c", "d"),
        predicted=True,
    )
    for name in ("first", "second"):
        draw(embedding, "title", tmp_path / f"{name}.png", seed=3)
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()


def test_folder_without_final_runs_is_said_to_be_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 2
    assert "no final run of a study has ended here" in capsys.readouterr().err
