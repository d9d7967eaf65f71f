"""``python -m study.run``: bad input, and what runs nothing."""

import os
from importlib.metadata import version
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import yaml
from filelock import FileLock
from torch import nn

from study.config.reading import question_of, read_studies, read_study, shipped_spaces
from study.execution import launch, preparation
from study.execution.launch import run_study
from study.run import main
from study.storage.locations import Storage
from study.storage.study_folder import StudyFolder
from tests.support.image_files import write_image, write_tree
from trainables.backbones import BACKBONES, resnet
from trainables.configuration.schema import ConfigError
from trainables.criteria import SELECTORS
from trainables.methods import METHODS
from trainables.run import main as run_alone

SPACE = """\
# Does anything help?
task: digits
num_trials: 2
fixed:
  backbone: small_cnn
  schedule: {num_epochs: 3}
search:
  optimizer:
    learning_rate: {log_uniform: [1.0e-4, 1.0e-2]}
  method:
    choice:
      no_adaptation: {}
      dann: {domain_weight: {uniform: [0.5, 1.0]}}
"""
SHORT_OF = 'task: {folders: {source: "SOURCE", target: "TARGET", image_size: 32}}'


class Place:
    """A folder with a space file and one for studies, which does not exist yet."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.space = folder / "space.yaml"
        self.out = folder / "out"
        self.capsys = capsys
        self.write(SPACE)

    def write(self, text: str) -> None:
        self.space.write_text(text)

    def change(self, old: str, new: str) -> None:
        assert SPACE.count(old) == 1
        self.write(SPACE.replace(old, new))

    def write_folders(self, **counts: int) -> None:
        """A space of images in folders: two classes as source, ``counts`` as target."""
        write_tree(self.folder / "source", {"bus": 4, "car": 4})
        write_tree(self.folder / "target", counts, first=100)
        task = SHORT_OF.replace("SOURCE", str(self.folder / "source"))
        self.change("task: digits", task.replace("TARGET", str(self.folder / "target")))

    def fails(self, *arguments: str, space: str | None = None) -> str:
        """The one line that the command says; it ends with code 2."""
        self.capsys.readouterr()
        code = main(["--space", space or str(self.space), "--out", str(self.out), *arguments])
        said = self.capsys.readouterr()
        assert (code, said.out) == (2, "")
        assert said.err.endswith("\n") and said.err.count("\n") == 1, said.err
        return said.err.strip().replace(f"{self.folder}/", "")

    def left(self) -> list[str]:
        """What there is in the folder of studies."""
        return sorted(str(p.relative_to(self.out)) for p in self.out.rglob("*"))


@pytest.fixture
def place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Place:
    return Place(tmp_path, capsys)


# The space


def test_an_unknown_space(place: Place) -> None:
    assert place.fails(space="digit").startswith(
        "no space or file named 'digit'. Did you mean 'digits'? Known: "
    )
    assert not place.out.exists()


@pytest.mark.parametrize(
    "text, line",
    [
        ("", "space.yaml: is empty."),
        (
            "task: [digits\nsearch: {}\n",
            "space.yaml:2: not YAML: expected ',' or ']', but got ':'.",
        ),
    ],
)
def test_what_is_no_space(place: Place, text: str, line: str) -> None:
    place.write(text)
    assert place.fails() == line
    assert not place.out.exists()


@pytest.mark.parametrize(
    "old, new, line",
    [
        (
            "      dann:",
            "      dan:",
            "space.yaml:10: search/method: unknown method 'dan'. Did you "
            f"mean 'dann'? Known: {', '.join(sorted(METHODS))}.",
        ),
        (
            "small_cnn",
            "smal_cnn",
            "space.yaml:5: fixed/backbone: unknown backbone 'smal_cnn'. Did "
            f"you mean 'small_cnn'? Known: {', '.join(sorted(BACKBONES))}.",
        ),
        (
            "num_trials: 2",
            "criterion: bmn",
            "space.yaml:3: criterion: unknown criterion 'bmn'. Did "
            f"you mean 'bnm'? Known: {', '.join(sorted(SELECTORS))}.",
        ),
        (
            "[1.0e-4, 1.0e-2]",
            "[1.0e-2, 1.0e-4]",
            "space.yaml:9: search/optimizer/learning_rate/log_uniform: must be [low, high] with "
            "low < "
            "high, got [0.01, 0.0001].",
        ),
        (
            "[1.0e-4, 1.0e-2]",
            "[1e-4, 1.0e-2]",
            "space.yaml:9: search/optimizer/learning_rate/log_uniform/0: must be a number, got "
            "'1e-4'. "
            "YAML reads 1e-4 as text: write 1.0e-4.",
        ),
        (
            "num_trials: 2",
            "num_trials: 0",
            "space.yaml:3: num_trials: must be greater than 0, got 0.",
        ),
    ],
)
def test_a_mistake_in_the_space(place: Place, old: str, new: str, line: str) -> None:
    place.change(old, new)
    assert place.fails() == line
    assert not place.out.exists()


@pytest.mark.parametrize(
    "arguments, line",
    [
        (["--trials", "0"], "--set: num_trials: must be greater than 0, got 0."),
        (["--trials", "-3"], "--set: num_trials: must be greater than 0, got -3."),
        (["--concurrency", "0"], "--set: concurrency: must be auto or an integer above 0, got 0."),
        (["--workers", "0"], "--set: fixed/resources/workers: must be greater than 0, got 0."),
        (
            ["--set", "fixed.optimizer.weight_decay=1e-4"],
            "--set: fixed/optimizer/weight_decay: must be a valid number, got '1e-4'. YAML "
            "reads 1e-4 as "
            "text: write 1.0e-4, without quotes.",
        ),
        (
            ["--set", "fixed.schedule.num_epoch=3"],
            "--set: fixed/schedule/num_epoch: unknown key 'num_epoch'. Did you mean 'num_epochs'? "
            "Known: decay, decay_epochs, decay_factor, decay_interval, num_epochs, num_steps, "
            "per, "
            "warmup_steps.",
        ),
        (["--name", "a/b"], "--name: must be the plain name of a folder, got 'a/b'."),
        (["--name", ".."], "--name: must be the plain name of a folder, got '..'."),
    ],
)
def test_a_mistake_on_the_command_line(place: Place, arguments: list[str], line: str) -> None:
    assert place.fails(*arguments) == line
    assert not place.out.exists()


@pytest.mark.parametrize("arguments", [["--trials", "many"], ["--seed", "1.5"], ["--spaces"]])
def test_what_is_no_option(place: Place, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--space", str(place.space), *arguments])
    assert caught.value.code == 2


def test_no_space_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert (
        capsys.readouterr().err
        == "--space NAME|FILE is required; --list shows the shipped spaces.\n"
    )


# The machine

REMEDY = "Lower workers, cpus_per_worker or gpus_per_worker, or use more or larger machines."


def here(cpus: int) -> str:
    gpus = torch.cuda.device_count()
    return f"1 × this machine ({cpus} CPU{f', {gpus} GPU' if gpus else ''})"


def test_more_workers_than_cpus(place: Place) -> None:
    cpus = len(os.sched_getaffinity(0))
    place.change("schedule:", "batch_size: 5040\n  schedule:")
    assert place.fails("--workers", "5040") == (
        f"resources: a trial needs 5040 workers of 1 CPU each, and there is room for only {cpus}: "
        f"{here(cpus)}. {REMEDY}"
    )
    assert place.fails("--set", f"fixed.resources.cpus_per_worker={cpus + 1}") == (
        f"resources: a trial needs {cpus + 1} CPU, and no machine has that: {here(cpus)}. {REMEDY}"
    )
    assert not place.out.exists()


def test_more_gpus_than_there_are(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert place.fails("--set", "fixed.resources.gpus_per_worker=0.5") == (
        "resources: a trial needs 1 CPU and 0.5 GPU, and no machine has that: "
        f"{here(len(os.sched_getaffinity(0)))}. {REMEDY}"
    )


def test_resources_are_not_searched(place: Place) -> None:
    assert (
        place.fails("--set", "search.resources.cpus_per_worker.choice=[1, 2]")
        == "resources: must be the same for all trials of a study."
    )


# The data


def test_a_folder_that_is_missing(place: Place) -> None:
    place.write_folders(bus=2, car=2)
    (place.folder / "target").rename(place.folder / "elsewhere")
    assert place.fails() == "target: must be a folder, got target, which does not exist."
    assert not place.out.exists()


def test_a_folder_that_is_empty(place: Place) -> None:
    place.write_folders(bus=2)
    (place.folder / "target" / "bus").rename(place.folder / "elsewhere")
    assert place.fails() == (
        "target: folder target holds no images. Images end in "
        ".jpg, .jpeg, .png, .bmp, .webp, .tif, .tiff."
    )
    assert not place.out.exists()


def test_folders_above_that_were_made_are_removed_too(place: Place) -> None:
    place.write_folders(buss=2, car=2)
    place.out = place.folder / "a" / "b" / "c"
    place.fails()
    assert not (place.folder / "a").exists()


def test_a_folder_with_other_classes(place: Place) -> None:
    place.write_folders(buss=2, car=2)
    assert place.fails() == (
        "target: folder 'buss' of target is no class of the source source. Did you mean 'bus'? "
        "Known: bus, car. Rename it or list it in aliases."
    )
    assert not place.out.exists()


def test_a_truncated_image_is_named(place: Place) -> None:
    place.write_folders(bus=2, car=2)
    image = write_image(place.folder / "target" / "bus" / "x.jpg", 7, size=(200, 100))
    image.write_bytes(image.read_bytes()[:-40])
    line = place.fails()
    assert line.startswith("target/bus/x.jpg: cannot be read as an image: ")
    assert line.endswith(" Replace or remove the file.")


def test_a_truncated_image_leaves_only_a_list_of_good_ones(place: Place) -> None:
    test_a_truncated_image_is_named(place)
    assert {path.split("/")[0] for path in place.left()} == {"cache"}
    names = {Path(path).name.split("-")[0] for path in place.left()[1:]}
    assert names == {"checked"}


def test_a_cache_that_was_there_stays(place: Place) -> None:
    (place.out / "cache").mkdir(parents=True)
    place.write_folders(buss=2, car=2)
    place.fails()
    assert place.left() == ["cache"]


def test_an_oracle_without_labels(place: Place) -> None:
    place.write_folders(bus=2)
    (place.folder / "target" / "bus").rename(place.folder / "flat")
    place.write(
        place.space.read_text().replace(str(place.folder / "target"), str(place.folder / "flat"))
    )
    assert (
        place.fails("--set", "criterion=oracle")
        == "criterion 'oracle' needs target labels, which task 'folders' does not have."
    )


def test_a_checkpoint_that_is_missing(place: Place) -> None:
    place.change(
        "backbone: small_cnn",
        "backbone: small_cnn\n  initialization: {checkpoint: {path: nowhere.pt}}",
    )
    assert (
        place.fails() == f"initialization/checkpoint/path: no such file: {Path.cwd()}/nowhere.pt."
    )
    assert not place.out.exists()


@pytest.mark.slow
def test_weights_that_cannot_be_downloaded(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    build = resnet.get_model

    def fail(name: str, weights: str | None) -> nn.Module:
        if weights is not None:
            raise URLError("Name or service not known")
        return build(name)

    monkeypatch.setattr(resnet, "get_model", fail)
    place.change("backbone: small_cnn", "backbone: resnet18\n  initialization: imagenet")
    assert place.fails() == (
        "the ImageNet weights of resnet18 cannot be downloaded (<urlopen error Name or service "
        "not known>). Fetch them where there is a network and name the file under "
        "initialization: {checkpoint: {path: …}}."
    )
    assert not StudyFolder(place.out / "space").root.exists()


WRONG_SIZE = (
    "backbone 'vit_tiny': the backbone is built for images of 224 × 224 pixels, and the "
    "task gives 32 × 32. Set the backbone's image_size: 32."
)


@pytest.mark.slow
def test_a_backbone_of_another_size(place: Place) -> None:
    place.change("backbone: small_cnn", "backbone: vit_tiny")
    assert place.fails() == WRONG_SIZE


@pytest.mark.slow
def test_a_backbone_of_another_size_alone_knows_it(
    place: Place,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = place.folder / "trial.yaml"
    path.write_text("{task: digits, backbone: vit_tiny}")
    assert (
        run_alone(
            [
                "--config",
                str(path),
                "--out",
                str(place.folder / "trial"),
                "--cache",
                str(place.out / "cache"),
            ]
        )
        == 2
    )
    assert capsys.readouterr().err == WRONG_SIZE + "\n"


@pytest.mark.slow
def test_a_pretraining_without_data(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SYN2REAL_DATA", raising=False)
    place.change(
        "backbone: small_cnn",
        "backbone: small_cnn\n  initialization: {pretraining: {task: synsl}}",
    )
    assert place.fails() == (
        "root: must name the folder of the downloads. Give it in the task's settings, by --data "
        "DIR, or in the environment variable SYN2REAL_DATA."
    )


def test_data_from_the_command_line_go_before_the_environment(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SYN2REAL_DATA", "/nowhere")
    (place.folder / "data").mkdir()
    place.change("task: digits", "task: synsl")
    assert "data/SynSL" in place.fails("--data", str(place.folder / "data"))
    assert "SYN2REAL_DATA: must be a folder, got /nowhere" in place.fails()
    assert os.environ["SYN2REAL_DATA"] == "/nowhere"


def test_data_that_are_not_there(place: Place) -> None:
    assert (
        place.fails("--data", str(place.folder / "nowhere"))
        == "--data: must be a folder, got nowhere, which does not exist."
    )
    assert not place.out.exists()


@pytest.mark.parametrize("flag", ["--warm-start", "--known-results"])
def test_an_earlier_study_that_is_not_there(place: Place, flag: str) -> None:
    said = place.fails(flag, str(place.folder / "nowhere"))
    assert said == "nowhere: no trial of a study has ended here."
    assert not place.out.exists()


# The folder


def started_study(place: Place, name: str = "space", *overrides: str) -> StudyFolder:
    """A study's folder as one that was interrupted leaves it."""
    study, _ = read_study(str(place.space), list(overrides))
    study_folder = StudyFolder(place.out / name)
    study_folder.root.mkdir(parents=True)
    launch._write_description(study_folder, study, "space")
    return study_folder


def test_a_folder_that_is_there_already(place: Place) -> None:
    started_study(place, "mine")
    before = place.left()
    assert place.fails("--name", "mine") == (
        "out/mine: already exists. Choose another --name, or resume that study with --resume."
    )
    assert place.left() == before


def test_the_folder_of_another_study(place: Place) -> None:
    started_study(place)
    before = place.left()
    place.change("small_cnn", "resnet18")
    assert place.fails("--resume", "--seed", "5") == (
        "out/space: holds a different study; it differs in fixed, seed. Resume it with --space "
        "out/space/study.yaml --name space, or choose another --name."
    )
    assert place.left() == before


def test_the_study_that_the_message_says_is_the_same(place: Place) -> None:
    study_folder = started_study(place, "mine", "fixed.schedule.num_epochs=1")
    study, _ = read_study(str(study_folder.space), [])
    preparation.check_same_study(study_folder, study)


def test_a_study_may_go_on_with_other_numbers_of_trials(place: Place) -> None:
    study_folder = started_study(place)
    study, _ = read_study(
        str(place.space), ["num_trials=9", "concurrency=1", "final_seeds=5", "max_restarts=0"]
    )
    preparation.check_same_study(study_folder, study)


def test_nothing_to_resume(place: Place) -> None:
    assert place.fails("--resume") == (
        "out/space: no study to resume here. Start a new one without --resume."
    )
    assert not place.out.exists()


def test_a_folder_without_study_is_nothing_to_resume(place: Place) -> None:
    (place.out / "space").mkdir(parents=True)
    assert "no study to resume here" in place.fails("--resume")
    assert place.left() == ["space"]


def test_a_study_that_runs_already(place: Place) -> None:
    study_folder = started_study(place)
    before = place.left()
    with FileLock(study_folder.root / ".lock"):
        assert place.fails("--resume") == "out/space: this study is already running."
    assert {path for path in place.left() if not path.endswith(".lock")} == set(before)


def test_a_file_in_the_place_of_the_folder(place: Place) -> None:
    place.out.write_text("not a folder")
    assert place.fails() == "out/space: cannot be written to (Not a directory)."
    assert place.out.read_text() == "not a folder"


def test_a_folder_that_is_not_writable(place: Place) -> None:
    place.out = Path("/proc/self")
    assert place.fails().startswith("/proc/self/space: cannot be written to (")


def test_a_cache_that_is_not_writable_leaves_no_study(place: Place) -> None:
    place.out.mkdir()
    (place.out / "cache").write_text("not a folder")
    assert place.fails() == "out/cache: cannot be written to (File exists)."
    assert place.left() == ["cache"]


# Names


def named(place: Place, *overrides: str, resume: bool, fresh: bool) -> str:
    studies = [study for study, _ in read_studies(str(place.space), list(overrides))]
    return preparation.choose_folders(Storage(place.out), "space", studies, resume, fresh)[0]


@pytest.mark.parametrize(
    "existing, chosen",
    [
        ([], "space"),
        (["space"], "space-2"),
        (["space", "space-2"], "space-3"),
        (["space", "space-3"], "space-2"),
    ],
)
def test_a_new_study_takes_a_free_name(place: Place, existing: list[str], chosen: str) -> None:
    for name in existing:
        (place.out / name).mkdir(parents=True)
    assert named(place, resume=False, fresh=True) == chosen


def test_the_latest_study_is_resumed_unless_one_is_named(place: Place) -> None:
    for name in ("space", "space-2"):
        started_study(place, name)
    assert named(place, resume=True, fresh=True) == "space-2"
    assert named(place, resume=True, fresh=False) == "space"


@pytest.mark.parametrize("resume, chosen", [(True, "space-2"), (False, "space-3")])
def test_studies_of_several_tasks_share_a_name(place: Place, resume: bool, chosen: str) -> None:
    started_study(place, "space-digits")
    started_study(place, "space-2-synsl")
    place.change("task: digits", "tasks: [digits, synsl]")
    assert named(place, resume=resume, fresh=True) == chosen


# What runs nothing


def test_the_list_shows_every_space_with_its_question(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["--list"]) == 0
    said = capsys.readouterr().out
    words = " ".join(said.split())
    for name, path in shipped_spaces().items():
        assert name in said and question_of(path).split("?")[0][:40] in words
    assert max(len(line) for line in said.splitlines()) <= 80


def test_a_dry_run_shows_values_examples_and_cost(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code = main(
        ["--space", str(place.space), "--out", str(place.out), "--dry-run", "--trials", "5"]
    )
    lines = [
        " ".join(line.replace("│", " ").split())
        for line in place.capsys.readouterr().out.splitlines()
    ]
    assert code == 0
    assert "optimizer/learning_rate 0.0001 … 0.01 (log)" in lines
    assert "method no_adaptation, dann" in lines
    assert "method/dann/domain_weight 0.5 … 1.0" in lines
    assert len([line for line in lines if line.startswith("example ")]) == 3
    assert lines[-1] == (
        "cost: at most 5 trials × 3 epochs, and 3 final runs for each of 2 "
        "conditions. Nothing was run."
    )
    assert not place.out.exists()


def test_a_dry_run_tells_the_cost_of_all_tasks(place: Place) -> None:
    place.change("task: digits", "tasks: [digits, synsl]")
    assert main(["--space", str(place.space), "--dry-run"]) == 0
    said = " ".join(place.capsys.readouterr().out.split())
    assert "cost for each of the tasks digits, synsl: at most 2 trials × 3 epochs" in said


@pytest.mark.slow
def test_the_data_of_all_tasks_are_looked_for_before_the_first_search(place: Place) -> None:
    place.change("task: digits", "tasks: [digits, synsl]")
    assert main(["--space", str(place.space), "--out", str(place.out)]) == 2
    assert "root: must name the folder of the downloads" in place.capsys.readouterr().err
    assert [path for path in place.left() if "space-" in path] == []


def test_simulating_takes_one_task(place: Place) -> None:
    place.change("task: digits", "tasks: [digits, synsl]")
    assert place.fails("--simulate", "curves.csv") == (
        "space.yaml: tasks: must be a single task here, got digits, synsl. "
        "Choose one with --set tasks=[digits]."
    )


def test_a_dry_run_s_examples_follow_the_seed(place: Place) -> None:
    said = []
    for seed in ("1", "1", "2"):
        main(["--space", str(place.space), "--dry-run", "--seed", seed])
        said.append(place.capsys.readouterr().out)
    assert said[0] == said[1] != said[2]


def test_a_dry_run_checks(place: Place) -> None:
    assert (
        place.fails("--dry-run", "--trials", "0")
        == "--set: num_trials: must be greater than 0, got 0."
    )


def test_from_python_bad_input_is_an_error(place: Place) -> None:
    with pytest.raises(ValueError, match="must be greater than 0, got 0") as caught:
        run_study(place.space, out=place.out, overrides=["num_trials=0"])
    assert isinstance(caught.value.__cause__, ConfigError)
    assert not place.out.exists()


# What is written down first


def test_a_study_is_described_before_it_runs(place: Place) -> None:
    study_folder = started_study(place, "mine", "num_trials=7")
    text = study_folder.space.read_text()
    assert text.startswith("# The space 'space' with its defaults filled in.\n")
    content = yaml.safe_load(text)
    assert content["num_trials"] == 7 and content["criterion"] == {"bnm": {}}
    (run,) = yaml.safe_load(study_folder.environment.read_text())
    assert {"command", "python", "packages", "git_revision", "platform", "cpus"} <= set(run)
    assert run["packages"]["torch"] == version("torch")


def test_every_run_of_a_study_is_noted(place: Place) -> None:
    study_folder = started_study(place)
    before = study_folder.space.read_text()
    study, _ = read_study(str(place.space), ["num_trials=9"])
    launch._write_description(study_folder, study, "space")
    assert len(yaml.safe_load(study_folder.environment.read_text())) == 2
    assert study_folder.space.read_text() == before
