"""Studies whose settings name files by relative paths, as a user starts them in a fresh folder."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import pytest
import torch
import yaml
from pydantic import Field

from study.config.reading import read_study
from study.execution.preparation import check_same_study
from study.run import main
from study.session.session import Session
from study.session.warm_start import best_params, known_trials
from study.storage.study_folder import StudyFolder
from study.trials.records import TrialRecord, read_records
from tests.support.fake_trials import Driver, make_record
from tests.support.image_files import write_image, write_tree
from tests.support.studies import overrides
from trainables.backbones import BACKBONES
from trainables.configuration.paths import PathText, resolve_paths
from trainables.configuration.schema import BaseConfig, validate
from trainables.tasks import DATA_VARIABLE, using_data_folder
from trainables.trial_config import TrialConfig

ROOT = Path(__file__).parents[2]
BACKBONE = "{small_cnn: {width: 4, feature_dim: 16}}"
SMALL = overrides(
    num_trials=1,
    final_seeds=1,
    fixed__backbone=BACKBONE,
    fixed__loader_workers=0,
    fixed__schedule__num_epochs=1,
    fixed__batch_size=4,
    task__folders__image_size=16,
    search__method="{choice: {no_adaptation: {}}}",
)
"""Changes of the page's space that make it quick; its paths stay as they are."""
CHECKPOINT = overrides(fixed__initialization="{checkpoint: {path: weights/backbone.pt}}")
WRITTEN = {
    "task/folders/source": "data/renders",
    "task/folders/target": "data/photos",
    "initialization/checkpoint/path": "weights/backbone.pt",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder, as docs/howto-own-images.md has it; and weights from elsewhere."""
    folder = tmp_path_factory.mktemp("fresh")
    page = (ROOT / "docs" / "howto-own-images.md").read_text()
    (space,) = re.findall(r"```yaml\n(# photos\.yaml.*?)```", page, re.S)
    assert "source: data/renders, target: data/photos" in space
    (folder / "photos.yaml").write_text(space)
    write_tree(folder / "data" / "renders", {"bus": 6, "car": 6})
    for number in range(5):
        write_image(folder / "data" / "photos" / f"{number}.jpg", 100 + number)
    entry = BACKBONES["small_cnn"]
    backbone = entry.build(entry.Config(width=4, feature_dim=16), imagenet=False)
    (folder / "weights").mkdir()
    torch.save(backbone.trunk.state_dict(), folder / "weights" / "backbone.pt")
    return folder


def run(folder: Path, space: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """What a user does there."""
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-m", "study.run", "--space", space, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )


def records_of(folder: Path) -> dict[str, TrialRecord]:
    return {
        record.id: record for record in read_records(StudyFolder(folder / "runs/photos").records)
    }


@pytest.fixture(scope="module")
def finished(folder: Path) -> "subprocess.CompletedProcess[str]":
    return run(folder, "photos.yaml", *SMALL, *CHECKPOINT)


@pytest.mark.slow
def test_paths_are_relative_to_the_current_directory(
    folder: Path, finished: "subprocess.CompletedProcess[str]"
) -> None:
    assert (finished.returncode, finished.stderr) == (0, "")
    records = records_of(folder)
    assert {name: record.outcome for name, record in records.items()} == {
        "0000": "complete",
        "final-no_adaptation-seed1": "complete",
    }
    for record in records.values():
        assert record.paths == WRITTEN
        trial = validate(TrialConfig, record.config)
        assert trial.identity() == record.identity
        assert resolve_paths(trial, "/elsewhere").written == {}
        assert record.config["task"]["folders"]["source"] == str(folder / "data/renders")
        assert record.config["initialization"]["checkpoint"]["path"] == str(
            folder / "weights/backbone.pt"
        )


@pytest.mark.slow
def test_from_another_folder_only_the_study_s_own_space_goes_on(
    folder: Path, finished: "subprocess.CompletedProcess[str]", tmp_path: Path
) -> None:
    assert finished.returncode == 0
    runs = ["--out", str(folder / "runs"), "--name", "photos", "--resume"]
    refused = run(tmp_path, str(folder / "photos.yaml"), *SMALL, *CHECKPOINT, *runs)
    own = str(folder / "runs/photos/study.yaml")
    assert (refused.returncode, refused.stderr) == (
        2,
        (
            f"{folder}/runs/photos: holds a different study; it differs in directory. Resume it "
            f"with --space {own} --name photos, or choose another --name.\n"
        ),
    )
    gone_on = run(tmp_path, own, *runs, "--set", "final_seeds=2")
    assert (gone_on.returncode, gone_on.stderr) == (0, "")
    more = records_of(folder)["final-no_adaptation-seed2"]
    assert (more.outcome, more.paths) == ("complete", WRITTEN)


# Settings


class Inner(BaseConfig):
    """Settings in settings."""

    weights: Annotated[PathText | None, Field(description="…")] = None


class Files(BaseConfig):
    """Paths in every form, and text that is none."""

    name: str = "data"
    one: PathText = "a"
    several: list[PathText] = []
    pair: tuple[int, PathText] = (1, "b")
    either: dict[str, PathText] | PathText | None = None
    inner: Inner = Inner()


def test_paths_are_found_by_their_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    files = Files(
        several=["./c/", "/d/../e/", ""],
        either={"x": "../f", "y": "~/g"},
        inner=Inner(weights="h.pt"),
    )
    resolved = resolve_paths(files, "/base")
    assert resolved.config == Files(
        one="/base/a",
        several=["/base/c", "/d/../e/", ""],
        pair=(1, "/base/b"),
        either={"x": "/base/../f", "y": "/home/me/g"},
        inner=Inner(weights="/base/h.pt"),
    )
    assert resolved.written == {
        "one": "a",
        "several/0": "./c/",
        "pair/1": "b",
        "either/x": "../f",
        "either/y": "~/g",
        "inner/weights": "h.pt",
    }
    assert resolve_paths(Files(either="i"), "/base").config.either == "/base/i"
    again = resolve_paths(resolved.config, "/other")
    assert again.config is resolved.config and again.written == {}


@pytest.mark.parametrize(
    "settings, places",
    [
        (
            {"task": {"folders": {"source": "s", "target": "t", "test_sets": {"more": "m"}}}},
            {"source": "s", "target": "t", "test_sets/more": "m"},
        ),
        *(
            ({"task": {name: {"root": "r"}}}, {"root": "r"})
            for name in ("synsl", "subvisda10", "imagenet")
        ),
        *(
            (
                {"task": {name: {"root": "r", "source": "renders", "splits": "s"}}},
                {"root": "r", "splits": "s"},
            )
            for name in ("s2rda49", "s2rda_ms39")
        ),
        (
            {
                "task": "digits",
                "initialization": {"pretraining": {"task": {"synsl": {"root": "r"}}}},
            },
            {"initialization/pretraining/task/synsl/root": "r"},
        ),
        (
            {"task": "digits", "initialization": {"checkpoint": {"path": "w.pt"}}},
            {"initialization/checkpoint/path": "w.pt"},
        ),
    ],
)
def test_every_setting_that_names_a_file_or_folder(
    settings: dict[str, Any], places: dict[str, str]
) -> None:
    written = resolve_paths(validate(TrialConfig, settings), "/base").written
    assert {
        place.removeprefix(f"task/{next(iter(settings['task']))}/"): text
        for place, text in written.items()
    } == places


def test_absolute_paths_keep_a_trial_s_identity() -> None:
    config = validate(
        TrialConfig,
        {
            "task": {"folders": {"source": "/data/./renders/", "target": "/data/../photos"}},
            "initialization": {"checkpoint": {"path": "/w//b.pt"}},
        },
    )
    assert config.identity() == "f9da25146c4abd32"  # of versions before this one
    assert resolve_paths(config, "/base").config is config


def test_a_relative_data_folder_is_the_same_for_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(DATA_VARIABLE, "downloads")
    with using_data_folder(None):
        assert os.environ[DATA_VARIABLE] == str(tmp_path / "downloads")
    assert os.environ[DATA_VARIABLE] == "downloads"
    monkeypatch.delenv(DATA_VARIABLE)
    with using_data_folder(None):
        assert DATA_VARIABLE not in os.environ


# Studies

SPACE: dict[str, Any] = {
    "num_trials": 4,
    "final_seeds": 1,
    "pruner": "none",
    "task": {"folders": {"target": "data/photos"}},
    "fixed": {"backbone": "small_cnn", "schedule": {"num_epochs": 4}},
    "search": {
        "task": {"folders": {"source": {"choice": ["renders", "/data/renders"]}}},
        "method": {"choice": {"no_adaptation": {}}},
    },
}


def folder_with(parent: Path, name: str, **changes: object) -> Path:
    (parent / name).mkdir()
    (parent / name / "space.yaml").write_text(yaml.safe_dump({**SPACE, **changes}))
    return parent / name


def open_session(folder: Path, out: Path) -> Session:
    """A study whose space is read in ``folder``, as ``study.run`` does."""
    study, space = read_study(str(folder / "space.yaml"), [])
    study_folder = StudyFolder(out)
    out.mkdir(exist_ok=True)
    study = study.located(space)
    if study_folder.space.exists():
        check_same_study(study_folder, study)
    else:
        study_folder.space.write_text(yaml.safe_dump(study.model_dump(mode="json")))
    return Session(study, space, study_folder)


def test_records_have_a_path_as_it_was_written_and_the_absolute_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = folder_with(tmp_path, "here")
    monkeypatch.chdir(here)
    session = open_session(here, tmp_path / "out")
    list(Driver(session, {}).events())
    own = {
        record.params["task/folders/source"]: record
        for record in session.records
        if record.same_as is None and record.stage == "search"
    }
    assert set(own) == {"renders", "/data/renders"}  # the journal's values are those of the space
    for text, record in own.items():
        folders = record.config["task"]["folders"]
        assert folders["source"] == os.path.join(here, text)
        assert folders["target"] == f"{here}/data/photos"
        relative = {"task/folders/source": text} if text == "renders" else {}
        assert record.paths == {"task/folders/target": "data/photos", **relative}
    final = session.records[-1]
    winner = own[final.params["task/folders/source"]]
    assert final.stage == "final" and final.paths == winner.paths
    assert final.config["task"] == winner.config["task"]


def test_an_interrupted_study_goes_on_with_the_paths_of_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = folder_with(tmp_path, "here"), folder_with(tmp_path, "there")
    monkeypatch.chdir(here)
    first = open_session(here, tmp_path / "out").next_trial()
    assert first is not None
    (there / "space.yaml").write_bytes((tmp_path / "out/study.yaml").read_bytes())
    monkeypatch.chdir(there)
    again = open_session(there, tmp_path / "out").next_trial()
    assert again is not None
    assert (again.config, again.paths) == (first.config, first.paths)


def test_the_same_text_in_another_folder_is_another_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [folder_with(tmp_path, name) for name in ("here", "there")]
    identities = []
    for folder in folders:
        monkeypatch.chdir(folder)
        trial = open_session(folder, tmp_path / f"out-{folder.name}").next_trial()
        assert trial is not None
        identities.append(trial.identity)
    assert identities[0] != identities[1]
    with pytest.raises(ValueError, match="differs in directory"):
        open_session(folders[1], tmp_path / "out-here")


def test_a_space_may_name_the_directory_and_is_then_the_same_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = folder_with(tmp_path, "here", directory="/images")
    found = []
    for folder in (here, tmp_path):
        monkeypatch.chdir(folder)
        trial = open_session(here, tmp_path / "out").next_trial()
        assert trial is not None
        found.append(trial.config.model_dump()["task"]["folders"]["target"])
    assert found == ["/images/data/photos"] * 2


def test_without_relative_paths_the_directory_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = folder_with(
        tmp_path, "here", task="digits", search={"method": {"choice": {"no_adaptation": {}}}}
    )
    for folder in (here, tmp_path):  # is resumed where it did not begin
        monkeypatch.chdir(folder)
        assert open_session(here, tmp_path / "out").study.directory is None


def test_a_study_of_an_earlier_version_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = folder_with(tmp_path, "here")
    monkeypatch.chdir(here)
    open_session(here, tmp_path / "out")
    study_folder = StudyFolder(tmp_path / "out")
    stored = yaml.safe_load(study_folder.space.read_text())
    del stored["directory"]
    study_folder.space.write_text(yaml.safe_dump(stored))
    record = make_record("0000", [0.5]).model_dump(mode="json")
    del record["paths"]
    assert validate(TrialRecord, record).paths == {}
    assert open_session(here, tmp_path / "out").study.directory == str(here)


def test_tasks_of_a_joint_search_have_their_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = folder_with(
        tmp_path,
        "here",
        joint="mean",
        tasks=["digits", {"folders": {"source": "renders", "target": "~/photos"}}],
        task=None,
        search={"method": {"choice": {"no_adaptation": {}}}},
    )
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.chdir(here)
    session = open_session(here, tmp_path / "out")
    assert session.study.directory == str(here)
    list(Driver(session, {}).events())
    (task,) = {
        str(record.config["task"]) for record in session.records if record.task == "folders"
    }
    assert f"{here}/renders" in task and "/home/me/photos" in task
    assert {str(record.paths) for record in session.records if record.task == "digits"} == {"{}"}
    assert {str(record.paths) for record in session.records if record.task == "folders"} == {
        str({"task/folders/source": "renders", "task/folders/target": "~/photos"})
    }


def test_an_earlier_study_s_values_are_those_of_the_space_and_its_results_of_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = folder_with(tmp_path, "here"), folder_with(tmp_path, "there")
    monkeypatch.chdir(here)
    session = open_session(here, tmp_path / "out")
    list(Driver(session, {}).events())
    for folder, known in ((here, True), (there, False)):
        monkeypatch.chdir(folder)
        study, space = read_study(str(folder / "space.yaml"), [])
        (best,) = best_params(tmp_path / "out", 1, space)
        assert best == {
            "task/folders/source": best["task/folders/source"],
            "method": "no_adaptation",
        }
        if known:
            assert known_trials(tmp_path / "out", study.located(space), space)
        else:
            with pytest.raises(ValueError, match="differs in directory"):
                known_trials(tmp_path / "out", study.located(space), space)


def test_a_cluster_takes_absolute_paths_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = folder_with(tmp_path, "here")
    arguments = [
        "--space",
        str(here / "space.yaml"),
        "--storage",
        "/shared",
        "--cluster",
        "nowhere.yaml",
    ]
    assert main(arguments) == 2
    rule = "must be absolute on a cluster, as its machines see it, got"
    remedy = "Or give the folder that it is relative to: --set directory=/FOLDER."
    assert set(capsys.readouterr().err.splitlines()) == {
        f"task/folders/target: {rule} data/photos. {remedy}",
        f"task/folders/source: {rule} renders. {remedy}",
    }
    assert main([*arguments, "--set", "directory=/images"]) == 2
    assert capsys.readouterr().err.startswith("--cluster nowhere.yaml: no such file")
