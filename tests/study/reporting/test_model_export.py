"""A winner's folder, and that what it says of images is what the final run said."""

import csv
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from PIL import Image

from study.export import main as export_main
from study.reporting.model_export import export
from study.storage.study_folder import StudyFolder
from study.trials.records import RecordFile, TrialRecord, read_records
from study.trials.running_trial import RunningTrial, make_record
from tests.support.image_files import write_image
from tests.support.stored_studies import describe
from tests.support.tiny_methods import CASES
from trainables.augmentations import Geometry, evaluation_transform
from trainables.configuration.schema import validate
from trainables.inference.classifier import (
    Classified,
    ModelFolder,
    Unreadable,
    load_model,
    save_model,
)
from trainables.inference.trained_method import filled_method
from trainables.methods import METHODS
from trainables.predict import main
from trainables.runtime.distributed import Runtime
from trainables.tasks import read_image
from trainables.training.trial import run_trial
from trainables.trial_config import TrialConfig

ROOT = Path(__file__).parents[3]
RUNS = (("no_adaptation", {}, 1), ("no_adaptation", {}, 2), ("mcd", {"hidden_dim": 8}, 1))


@dataclass(frozen=True)
class Study:
    """Three final runs on photographs in folders; the folders are gone by now."""

    study_folder: StudyFolder
    images: Path
    """The target's images, where they have been moved to."""
    source: Path
    """Where the task had them."""

    def record(self, trial_id: str) -> TrialRecord:
        return next(r for r in read_records(self.study_folder.records) if r.id == trial_id)

    def predictions(self, trial_id: str) -> dict[str, tuple[str, float]]:
        """Class and probability by the image's path below the target's folder."""
        path = self.study_folder.trial(trial_id) / "predictions.csv"
        with path.open() as file:
            return {
                str(Path(row["image"]).relative_to(self.source)): (
                    row["class"],
                    float(row["probability"]),
                )
                for row in csv.DictReader(file)
            }


def write_noise(root: Path, first: int) -> None:
    """Images of various sizes, of which those of one class are brighter."""
    for index in range(24):
        path = root / ("bright", "dark")[index % 2] / f"{index}.png"
        write_image(path, first + index, (30 + 3 * index, 60 - index))
        if index % 2:
            Image.fromarray(np.asarray(Image.open(path)) // 3).save(path)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("export")
    write_noise(folder / "source", 0)
    write_noise(folder / "target", 100)
    study_folder = describe(folder / "study")
    file = RecordFile(study_folder.records)
    for method, settings, seed in RUNS:
        config = validate(
            TrialConfig,
            {
                "task": {
                    "folders": {
                        "source": str(folder / "source"),
                        "image_size": 24,
                        "target": str(folder / "target"),
                        "holdout": 0.2,
                    }
                },
                "backbone": {"small_cnn": {"width": 4, "feature_dim": 16}},
                "batch_size": 8,
                "method": {method: settings},
                "normalization": "subset_visda",
                "seed": seed,
                "optimizer": {"algorithm": "adamw", "learning_rate": 3e-3},
                "schedule": {"num_epochs": 4, "decay": "constant"},
                "selection": {"source_accuracy_floor": 0.0},
                "evaluation": {"test": True, "batch_size": 5},
            },
        )
        trial = RunningTrial(
            f"final-{method}-seed{seed}",
            "final",
            method,
            config,
            {"method": method, "optimizer/learning_rate": 3e-3},
        )
        trial.reports += run_trial(config, study_folder.trial(trial.id), folder / "cache")
        file.append(make_record(trial, "complete", None))
    (folder / "target").rename(folder / "moved")
    shutil.rmtree(folder / "source")
    shutil.rmtree(folder / "cache")
    return Study(study_folder, folder / "moved", folder / "target")


@pytest.fixture(scope="module")
def models(study: Study) -> dict[str, Path]:
    """An export of each method."""
    return {
        method: export(
            study.study_folder.root, study.study_folder.root / "models" / method, method=method
        )
        for method in ("no_adaptation", "mcd")
    }


def exported_run(folder: Path, study: Study) -> TrialRecord:
    """The final run that a folder was exported from."""
    identity = validate(
        TrialConfig, yaml.safe_load(ModelFolder(folder).config.read_text())
    ).identity()
    return next(r for r in read_records(study.study_folder.records) if r.identity == identity)


# What it predicts


@pytest.mark.parametrize("method", ["no_adaptation", "mcd"])
def test_predictions_are_those_of_the_final_run(
    study: Study, models: dict[str, Path], method: str, tmp_path: Path
) -> None:
    table = tmp_path / "classes.csv"
    assert (
        main(
            [
                str(models[method]),
                str(study.images),
                "--csv",
                str(table),
                "--batch-size",
                "7",
                "--device",
                "cpu",
            ]
        )
        == 0
    )
    with table.open() as file:
        rows = {
            str(Path(row["image"]).relative_to(study.images)): (
                row["class"],
                float(row["probability"]),
            )
            for row in csv.DictReader(file)
        }
    expected = study.predictions(exported_run(models[method], study).id)
    assert rows.keys() == expected.keys() and len(rows) == 24
    for image, (label, probability) in rows.items():
        assert label == expected[image][0]
        assert probability == pytest.approx(expected[image][1], abs=2e-6)
    assert len({probability for _, probability in rows.values()}) > 12  # or it says nothing


def test_transform_is_that_of_the_evaluation(models: dict[str, Path], study: Study) -> None:
    model = load_model(models["mcd"])
    image = read_image(str(sorted(study.images.rglob("*.png"))[3]))
    cut = evaluation_transform(Geometry(crop_size=24, resize_size=27))(image)
    mean, std = torch.tensor([[0.8781, 0.8769, 0.8743], [0.2075, 0.2105, 0.2168]])
    seen = ((cut / 255).permute(1, 2, 0) - mean) / std
    with model.method.evaluating():
        expected = model.method.predict(seen.permute(2, 0, 1)[None]).logits.softmax(dim=1)
    assert torch.allclose(model.probabilities([image]), expected, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_every_method_comes_back_whole(case: str, tmp_path: Path) -> None:
    name, settings = CASES[case]
    config = validate(
        TrialConfig,
        {
            "task": "digits",
            "method": {name: settings},
            "backbone": {"small_cnn": {"width": 4, "feature_dim": 16}},
        },
    )
    blank = METHODS[name](config.method.config, *_parts(config))
    original = filled_method(config, 3, blank.networks.state_dict(), "here", Runtime())
    save_model(
        tmp_path,
        config,
        original.networks.state_dict(),
        ("a", "b", "c"),
        Geometry(crop_size=32, resize_size=32),
    )
    model = load_model(tmp_path)
    before, after = original.networks.state_dict(), model.method.networks.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def _parts(config: TrialConfig) -> Any:
    from trainables.backbones import BACKBONES
    from trainables.nn.optimization import optimizer_factory

    backbone = BACKBONES["small_cnn"].build(config.backbone.config, imagenet=False)
    return backbone, 3, optimizer_factory(config.optimizer), Runtime()


# The command


def test_damaged_image_is_named_and_skipped(
    study: Study, models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = sorted(study.images.rglob("*.png"))
    shutil.copy(whole[0], tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(whole[1].read_bytes()[:300])
    shutil.copy(whole[2], tmp_path / "c.png")
    assert main([str(models["mcd"]), str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert [line.split("\t")[0] for line in out.splitlines()] == [
        str(tmp_path / "a.png"),
        str(tmp_path / "c.png"),
    ]
    assert f"Skipped: {tmp_path / 'b.png'}: cannot be read as an image" in err
    assert "1 of 3 images cannot be read." in err
    (tmp_path / "a.png").unlink()
    (tmp_path / "c.png").unlink()
    assert main([str(models["mcd"]), str(tmp_path)]) == 1


def test_results_from_python_come_in_order(study: Study, models: dict[str, Path]) -> None:
    good = [str(path) for path in sorted(study.images.rglob("*.png"))]
    paths = [good[5], "missing.png", *good[:4]]
    results = list(load_model(models["mcd"]).classify(paths, batch_size=2))
    assert [result.image for result in results] == paths
    assert isinstance(results[1], Unreadable) and "missing.png" in results[1].reason
    assert all(isinstance(result, Classified) for result in (results[0], *results[2:]))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["{model}", "nowhere"], "nowhere: no such file or folder."),
        (["{model}", "{empty}"], "the folder holds no images."),
        (["{empty}", "{image}"], "trial.yaml: No such file or directory."),
        (["{model}", "{image}", "--csv", "{empty}"], "Is a directory."),
        (["{model}", "{image}", "--device", "warp"], "--device warp: cannot be used"),
    ],
)
def test_bad_input_is_said(
    study: Study,
    models: dict[str, Path],
    tmp_path: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    values = {
        "model": models["mcd"],
        "empty": tmp_path,
        "image": next(study.images.rglob("*.png")),
    }
    assert main([argument.format(**values) for argument in arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("model.safetensors", b"no", "not a safetensors file"),
        ("model.yaml", b"classes: [a]", "transform: is required and missing."),
        ("model.yaml", b"{", "not YAML"),
    ],
)
def test_damaged_model_is_said(
    models: dict[str, Path], tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    folder = shutil.copytree(models["mcd"], tmp_path / "model")
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        load_model(folder)
    assert str(folder / name) in str(caught.value)


def test_weights_of_another_configuration_are_refused(
    models: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(models["mcd"], tmp_path / "model")
    shutil.copy(ModelFolder(models["no_adaptation"]).weights, ModelFolder(folder).weights)
    with pytest.raises(ValueError, match="not the networks of this configuration"):
        load_model(folder)


@pytest.mark.slow
def test_neither_ray_nor_study_is_loaded(study: Study, models: dict[str, Path]) -> None:
    script = (
        "import sys; from trainables.predict import main; code = main(sys.argv[1:]); "
        "print(code, sorted({name.split('.')[0] for name in sys.modules} "
        "& {'ray', 'optuna', 'study'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(models["mcd"]), str(study.images / "dark")],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.stderr == "" and done.stdout.splitlines()[-1] == "0 []"
    assert len(done.stdout.splitlines()) == 13


# What is exported


def test_winner_is_the_best_final_run_by_the_criterion(study: Study, tmp_path: Path) -> None:
    records = read_records(study.study_folder.records)
    best = max(records, key=lambda record: record.objective or 0.0)
    folder = export(study.study_folder.root, tmp_path / "all")
    assert exported_run(folder, study).id == best.id
    seeds = [r for r in records if r.method == "no_adaptation"]
    better = max(seeds, key=lambda record: record.objective or 0.0)
    folder = export(
        study.study_folder.root, tmp_path / "one", method="no_adaptation", task="folders"
    )
    assert exported_run(folder, study).id == better.id


def test_card_says_what_it_is_and_how_good(models: dict[str, Path], study: Study) -> None:
    card = ModelCard.load(ModelFolder(models["no_adaptation"]).card)
    run = exported_run(models["no_adaptation"], study)
    peers = [study.record(f"final-no_adaptation-seed{seed}") for seed in (1, 2)]
    accuracies = [100 * peer.test["target_test/accuracy"] for peer in peers]
    own = {result.dataset_split: result.metric_value for result in card.data.eval_results}
    assert own["target_test"] == pytest.approx(run.test["target_test/accuracy"], abs=1e-6)
    assert own["source_val"] == pytest.approx(run.selected()["source_val/accuracy"], abs=1e-6)
    spread = f"{np.mean(accuracies):.1f} ± {np.std(accuracies, ddof=1):.1f}"
    row = next(line for line in card.text.splitlines() if line.startswith("| target"))
    assert f" {100 * own['target_test']:.1f} | {spread} |" in row
    assert "selected by `bnm`, which reads no target label" in " ".join(card.text.split())
    for part in (
        "bright, dark",
        "No Adaptation",
        "27 pixels",
        "24 × 24",
        "optimizer/learning_rate",
        "0.8781 / 0.8769 / 0.8743",
        run.identity,
    ):
        assert part in card.text
    assert "oracle" not in card.content.lower()


def test_card_of_an_oracles_choice_says_so(study: Study, tmp_path: Path) -> None:
    root = shutil.copytree(study.study_folder.root, tmp_path / "study")
    lines = [json.loads(line) for line in StudyFolder(root).records.read_text().splitlines()]
    for line in lines:
        line["config"]["selection"]["criterion"] = {"oracle": {}}
    StudyFolder(root).records.write_text("".join(json.dumps(line) + "\n" for line in lines))
    card = ModelCard.load(ModelFolder(export(root)).card)
    assert {r.metric_name for r in card.data.eval_results} == {"Accuracy (oracle selection)"}
    assert "an ORACLE that reads target labels" in " ".join(card.text.split())


def test_average_of_ranks_chooses_among_the_final_runs(study: Study, tmp_path: Path) -> None:
    """Each run's own objective is a rank among its own evaluations, and says nothing here."""
    root = shutil.copytree(study.study_folder.root, tmp_path / "study")
    lines = [json.loads(line) for line in StudyFolder(root).records.read_text().splitlines()]
    for line, score in zip(lines, (0.2, 0.9, 0.5), strict=True):
        line["config"]["selection"]["criterion"] = {
            "rank_average": {"criteria": ["bnm", "entropy"]}
        }
        line["objective"] = 1.0 - score
        for evaluation in line["evaluations"]:
            evaluation["metrics"].update({"criterion/bnm": score, "criterion/entropy": score})
    StudyFolder(root).records.write_text("".join(json.dumps(line) + "\n" for line in lines))
    card = " ".join(ModelFolder(export(root)).card.read_text().split())
    assert "The model here is that of seed 2." in card
    assert "selected by the average rank by `bnm`, `entropy`, which reads no target label" in card


def test_command_replaces_an_export_and_nothing_else(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(study.study_folder.root), "--out", str(tmp_path / "model")]
    assert export_main(arguments) == export_main(arguments) == 0
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "model")] * 2
    assert {path.name for path in (tmp_path / "model").iterdir()} == {
        "README.md",
        "model.safetensors",
        "model.yaml",
        "trial.yaml",
    }
    (tmp_path / "README.md").write_text("mine")
    assert export_main([str(study.study_folder.root), "--out", str(tmp_path)]) == 2
    assert "must be a new or empty folder" in capsys.readouterr().err
    assert (tmp_path / "README.md").read_text() == "mine"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ["--method", "mdc"],
            "--method mdc: no final run of the study has it. Did you mean 'mcd'?",
        ),
        (["--task", "digits"], "--task digits: no final run of the study has it. Known: folders."),
    ],
)
def test_unknown_names_are_said(
    study: Study, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export_main([str(study.study_folder.root), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_study_of_several_tasks_needs_one_named(study: Study, tmp_path: Path) -> None:
    root = shutil.copytree(study.study_folder.root, tmp_path / "study")
    lines = StudyFolder(root).records.read_text().splitlines(keepends=True)
    other = json.loads(lines[0]) | {"id": "final-other"}
    other["config"]["task"] = {"digits": {}}
    StudyFolder(root).records.write_text("".join([*lines, json.dumps(other) + "\n"]))
    with pytest.raises(
        ValueError, match="--task: must be given, since the study has folders, dig"
    ):
        export(root)
    assert exported_run(export(root, task="folders", method="mcd"), study).method == "mcd"


def test_winner_of_a_condition_is_that_of_its_runs_alone(study: Study, tmp_path: Path) -> None:
    root = shutil.copytree(study.study_folder.root, tmp_path / "study")
    lines = [json.loads(line) for line in StudyFolder(root).records.read_text().splitlines()]
    for line, condition in zip(lines, ("weak", "strong", "weak"), strict=True):
        line["condition"] = condition
    StudyFolder(root).records.write_text("".join(json.dumps(line) + "\n" for line in lines))
    folder = export(root, method="strong")
    assert exported_run(folder, study).id == "final-no_adaptation-seed2"
    card = ModelFolder(folder).card.read_text()
    assert "**Condition of the study:** strong" in card and "seeds 2." in card


def test_folder_without_final_runs_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no final run of a study has ended here"):
        export(tmp_path)
