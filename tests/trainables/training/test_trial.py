"""A trial from configuration to last report: identities, kills and refusals."""

import json
import pickle
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from torch import Tensor

from study.trials.records import RecordFile
from study.trials.running_trial import RunningTrial, make_record
from tests.support.image_files import write_tree
from tests.support.spy_tasks import TouchedError, timeless, tiny
from trainables.checkpointing.tensors import load_tensors, save_tensors
from trainables.checkpointing.trial_folder import TrialFolder
from trainables.config import TrialConfig, pretraining_trial, read_trial_config
from trainables.configuration.schema import validate
from trainables.criteria import CRITERIA
from trainables.methods import METHODS
from trainables.run import main
from trainables.training import trial as trial_module
from trainables.training.domains import open_domains
from trainables.training.report import Report, TrialError
from trainables.training.trainer import Trainer
from trainables.training.trial import run_trial

ROOT = Path(__file__).parents[3]
PRETRAINING: dict[str, Any] = {
    "pretraining": {
        "optimizer": {"algorithm": "adam", "learning_rate": 2e-3},
        "augmentation": {"weak": {"images_per_draw": 8}},
        "schedule": {"num_epochs": None, "num_steps": 6},
    }
}
"""Three evaluations: 180 pictures are two batches of 64."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Numbers depend on the number of threads; trials use one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def cache(digits_cache: Path) -> Path:
    return digits_cache


def run(config: TrialConfig, folder: Path, cache: Path) -> list[Report]:
    return [timeless(report) for report in run_trial(config, folder, cache)]


def weights(folder: Path, name: str = "latest.pt") -> dict[str, Tensor]:
    """The networks in a checkpoint."""
    state = load_tensors(folder / name)
    networks: dict[str, Tensor] = (state["method"] if "method" in state else state)["networks"]
    return networks


def same(first: Any, second: Any) -> bool:
    """Whether two checkpoints are equal, bit for bit."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, Tensor):
        return torch.equal(first, second)
    if isinstance(first, list):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


# Reports


def test_a_trial_reports_after_every_epoch(tmp_path: Path, cache: Path) -> None:
    reports = run(tiny(), tmp_path, cache)
    assert [
        (r.phase, r.evaluation, r.num_evaluations, r.epoch, r.num_epochs, r.finished)
        for r in reports
    ] == [("training", 1, 2, 1.0, 2.0, False), ("training", 2, 2, 2.0, 2.0, True)]


def test_a_report_holds_losses_all_criteria_and_source_accuracy(
    tmp_path: Path,
    cache: Path,
) -> None:
    (report, _) = run(tiny(method="dann"), tmp_path, cache)
    assert set(report.metrics) == {
        "loss/classification",
        "loss/domain",
        *(f"criterion/{name}" for name in CRITERIA),
        "source_val/accuracy",
        "source_val/mean_class_accuracy",
    }


def test_an_epoch_passes_over_the_larger_domain(tmp_path: Path, cache: Path) -> None:
    """180 source pictures or 898 scans, 64 at a time."""
    schedule = {"num_epochs": None, "num_steps": 7}
    assert [r.epoch for r in run(tiny(schedule=schedule), tmp_path / "source", cache)] == [
        1.0,
        2.0,
        3.0,
        3.5,
    ]
    assert [
        r.epoch for r in run(tiny(method="dann", schedule=schedule), tmp_path / "t", cache)
    ] == [0.5]


def test_evaluations_come_at_their_interval_and_at_the_end(tmp_path: Path, cache: Path) -> None:
    config = tiny(
        schedule={"num_epochs": None, "num_steps": 7},
        evaluation={"interval_steps": 3, "max_images": 50},
    )
    assert [(r.epoch, r.finished) for r in run(config, tmp_path, cache)] == [
        (1.5, False),
        (3.0, False),
        (3.5, True),
    ]


@pytest.mark.slow
def test_training_learns(tmp_path: Path, cache: Path) -> None:
    first, *_, last = run(
        tiny(
            schedule={"num_epochs": 20, "decay": "constant"},
            batch_size=32,
            augmentation="none",
            optimizer={"algorithm": "adam", "learning_rate": 1e-2},
        ),
        tmp_path,
        cache,
    )
    assert last.metrics["loss/classification"] < 0.5 * first.metrics["loss/classification"]


@pytest.mark.slow
def test_a_trial_repeats_itself_bit_for_bit(tmp_path: Path, cache: Path) -> None:
    config = tiny(**CASES["mcd"])
    assert run(config, tmp_path / "a", cache) == run(config, tmp_path / "b", cache)
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))


def test_the_seed_decides(tmp_path: Path, cache: Path) -> None:
    reports = [run(tiny(seed=seed), tmp_path / str(seed), cache) for seed in (0, 1)]
    assert (
        reports[0][0].metrics["loss/classification"]
        != reports[1][0].metrics["loss/classification"]
    )


def test_time_spent_by_the_reader_does_not_count(
    tmp_path: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr("trainables.training.progress.time.monotonic", lambda: now[0])
    seconds = []
    for report in run_trial(tiny(), tmp_path, cache):
        seconds.append(report.seconds)
        now[0] += 100.0
    assert seconds == [0.0, 0.0]


def test_a_folder_holds_its_trial_s_configuration(tmp_path: Path, cache: Path) -> None:
    config = tiny()
    next(iter(run_trial(config, tmp_path, cache)))
    assert read_trial_config(tmp_path / "trial.yaml") == config


# Kills


CASES: dict[str, dict[str, Any]] = {
    "no_adaptation": {"method": "no_adaptation"},
    "dann": {"method": "dann", "target_augmentation": "strong"},
    "mcd": {"method": {"mcd": {"hidden_dim": 16, "num_generator_steps": 1}}},
    "srdc": {"method": "srdc"},
    "pretrained": {"method": "dann", "initialization": PRETRAINING},
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_trial_stopped_after_every_report_goes_on_bit_for_bit(
    tmp_path: Path,
    cache: Path,
    case: str,
) -> None:
    config = tiny(
        schedule={"num_epochs": None, "num_steps": 8, "decay": "cosine", "per": "step"},
        evaluation={"interval_steps": 3, "max_images": 60, "test": True},
        **CASES[case],
    )
    own_caches = [tmp_path / "cache-a", tmp_path / "cache-b"]  # each with its own pre-training
    for own in own_caches:
        own.mkdir()
        for path in cache.glob("*.npy"):
            (own / path.name).symlink_to(path)
    expected = run(config, tmp_path / "whole", own_caches[0])
    folder, given = tmp_path / "parts", 0
    reports: list[Report] = []
    while not (reports and reports[-1].finished):
        reports = []
        for report in run_trial(config, folder, own_caches[1]):
            reports.append(timeless(report))
            if len([r for r in reports if r.phase != "pretraining"]) > given:
                given += 1
                break
    trained = [report for report in expected if report.phase != "pretraining"]
    assert [r for r in reports if r.phase != "pretraining"] == trained and given == len(trained)
    for name in ("latest.pt", "best.pt"):
        assert same(weights(tmp_path / "whole", name), weights(folder, name))
    states = [load_tensors(path / "latest.pt")["method"] for path in (tmp_path / "whole", folder)]
    assert same(*states)


def test_a_trial_killed_in_the_midst_of_an_epoch_goes_on_from_its_last_report(
    tmp_path: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = tiny(method="dann")
    expected = run(config, tmp_path / "whole", cache)
    updates = []
    update = METHODS["dann"].update

    def until_killed(self: Any, batch: Any, progress: float) -> Any:
        updates.append(progress)
        if len(updates) == 20:  # of 28, the second epoch's sixth
            raise KeyboardInterrupt
        return update(self, batch, progress)

    monkeypatch.setattr(METHODS["dann"], "update", until_killed)
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "killed", cache)
    updates.append(0.0)
    assert run(config, tmp_path / "killed", cache) == expected
    assert len(updates) == 21 + 14, "the first epoch is not trained again"
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "killed"))


def test_a_trial_killed_between_its_two_checkpoints_goes_on_alike(
    tmp_path: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = tiny()
    expected = run(config, tmp_path / "whole", cache)

    def kill(self: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_save", kill)
        with pytest.raises(KeyboardInterrupt):
            run(config, tmp_path / "killed", cache)
    assert (tmp_path / "killed" / "best.pt").exists()
    assert run(config, tmp_path / "killed", cache) == expected


def test_a_finished_trial_repeats_its_reports_and_trains_no_more(
    tmp_path: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = tiny(evaluation={"max_images": 50, "test": True})
    expected = run(config, tmp_path, cache)
    for name in ("update", "predict"):
        monkeypatch.setattr(METHODS["no_adaptation"], name, None)
    assert run(config, tmp_path, cache) == expected


def test_a_folder_of_another_trial_is_refused(tmp_path: Path, cache: Path) -> None:
    one, other = tiny(), tiny(seed=1)
    next(iter(run_trial(one, tmp_path, cache)))
    with pytest.raises(ValueError) as caught:
        next(iter(run_trial(other, tmp_path, cache)))
    assert str(caught.value) == (
        f"{tmp_path}/latest.pt: belongs to another configuration "
        f"({one.identity()}, not {other.identity()})."
    )


# Target labels


@pytest.mark.slow
@pytest.mark.parametrize("case", ["dann", "mcd", "srdc"])
def test_target_labels_change_no_weight_and_no_choice(
    tmp_path: Path,
    cache: Path,
    case: str,
) -> None:
    true = run(tiny(**CASES[case]), tmp_path / "true", cache)
    lies = run(tiny("tests.support.spy_tasks.Relabelled", **CASES[case]), tmp_path / "lies", cache)
    for name in ("latest.pt", "best.pt"):
        assert same(weights(tmp_path / "true", name), weights(tmp_path / "lies", name))
    assert true[-1].metrics["criterion/oracle"] != lies[-1].metrics["criterion/oracle"]
    for one, other in zip(true, lies, strict=True):
        assert one.metrics.pop("criterion/oracle") is not None
        other.metrics.pop("criterion/oracle")
        assert one == other


def test_without_target_labels_all_but_the_oracle_is_reported(tmp_path: Path, cache: Path) -> None:
    settings: dict[str, Any] = {"method": "dann", "evaluation": {"max_images": 50, "test": True}}
    labelled = run(tiny(**settings), tmp_path / "a", cache)
    unlabelled = run(tiny("tests.support.spy_tasks.Unlabelled", **settings), tmp_path / "b", cache)
    assert same(weights(tmp_path / "a", "best.pt"), weights(tmp_path / "b", "best.pt"))
    missing = set(labelled[0].metrics) - set(unlabelled[0].metrics)
    assert missing == {"criterion/oracle"}
    assert unlabelled[-1].metrics["IID/accuracy"] == labelled[-1].metrics["IID/accuracy"]


def test_a_tree_of_target_images_trains_as_a_flat_folder_of_them(tmp_path: Path) -> None:
    write_tree(tmp_path / "source", {"bus": 20, "car": 20})
    write_tree(tmp_path / "target", {"bus": 16, "car": 16}, first=100)
    (tmp_path / "flat").mkdir()
    for path in (tmp_path / "target").rglob("*.png"):
        (tmp_path / "flat" / f"x{path.stem[::-1]}.png").write_bytes(path.read_bytes())
    for target in ("target", "flat"):
        config = validate(
            TrialConfig,
            {
                **tiny().model_dump(mode="json"),
                "method": "dann",
                "batch_size": 16,
                "augmentation": "weak",
                "task": {
                    "folders": {
                        "source": str(tmp_path / "source"),
                        "image_size": 16,
                        "target": str(tmp_path / target),
                    }
                },
            },
        )
        run(config, tmp_path / f"run-{target}", tmp_path / "cache")
    assert same(weights(tmp_path / "run-target"), weights(tmp_path / "run-flat"))


@pytest.mark.parametrize(
    "task, changes, message",
    [
        (
            "Unlabelled",
            {"selection": {"criterion": "oracle"}},
            "criterion 'oracle' needs target labels, which task "
            "'tests.support.spy_tasks.Unlabelled' "
            "does not "
            "have.",
        ),
        (
            "SourceOnly",
            {"selection": {"criterion": "bnm"}},
            "criterion 'bnm' needs a target, which task 'tests.support.spy_tasks.SourceOnly' "
            "does not "
            "have.",
        ),
        (
            "SourceOnly",
            {"selection": {"criterion": "source_validation"}, "method": "dann"},
            "method 'dann' adapts to a target, and task 'tests.support.spy_tasks.SourceOnly' "
            "has none.",
        ),
    ],
)
def test_what_a_task_lacks_is_said_when_its_data_are_opened(
    cache: Path,
    task: str,
    changes: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(ValueError) as caught:
        open_domains(tiny(f"tests.support.spy_tasks.{task}", **changes), cache)
    assert str(caught.value) == message


def test_a_task_without_target_is_trained_on_and_selected_by_its_source(
    tmp_path: Path,
    cache: Path,
) -> None:
    config = tiny(
        "tests.support.spy_tasks.SourceOnly", selection={"criterion": "source_validation"}
    )
    reports = run(config, tmp_path, cache)
    assert {name for name in reports[0].metrics if name.startswith("criterion/")} == {
        "criterion/source_validation"
    }


# Selection


def test_the_objective_is_the_criterion_at_the_best_evaluation_so_far(
    tmp_path: Path,
    cache: Path,
) -> None:
    config = tiny(
        schedule={"num_epochs": 6, "decay": "constant"},
        selection={"criterion": "entropy", "source_accuracy_floor": 0.0},
    )
    values = []
    for report in run(config, tmp_path, cache):
        values.append(report.metrics["criterion/entropy"])
        assert report.objective == max(values)
        assert report.best_evaluation == values.index(max(values)) + 1


def test_the_kept_checkpoint_is_the_best_one_s(tmp_path: Path, cache: Path) -> None:
    """A criterion that likes the first evaluation, and a trial that ends with it."""
    selection = {"criterion": "tests.support.spy_tasks.Doubt", "source_accuracy_floor": 0.0}
    long = run(
        tiny(
            selection=selection,
            schedule={"num_epochs": 8, "decay": "constant"},
            evaluation={"max_images": 50, "test": True},
        ),
        tmp_path / "long",
        cache,
    )
    short = run(
        tiny(
            selection=selection,
            schedule={"num_epochs": 1, "decay": "constant"},
            evaluation={"max_images": 50, "test": True},
        ),
        tmp_path / "short",
        cache,
    )
    assert long[-1].best_evaluation == 1
    assert same(weights(tmp_path / "long", "best.pt"), weights(tmp_path / "short", "best.pt"))
    assert long[-1].metrics == short[-1].metrics, "the test is of the kept checkpoint"


def test_below_the_source_floor_every_checkpoint_ranks_last(tmp_path: Path, cache: Path) -> None:
    for method in ("no_adaptation", "dann"):
        config = tiny(method=method, selection={"source_accuracy_floor": 1.0})
        shortfalls = []
        for report in run(config, tmp_path / method, cache):
            shortfalls.append(1.0 - report.metrics["source_val/accuracy"])
            assert report.objective == -min(shortfalls) < 0 < report.metrics["criterion/bnm"]


# Test sets


def test_test_sets_are_not_read_by_a_search_s_trial(tmp_path: Path, cache: Path) -> None:
    reports = run(tiny("tests.support.spy_tasks.ForbiddenTests", method="dann"), tmp_path, cache)
    assert reports[-1].finished


def test_test_sets_are_read_where_the_configuration_says_so(tmp_path: Path, cache: Path) -> None:
    config = tiny(
        "tests.support.spy_tasks.ForbiddenTests", evaluation={"test": True, "max_images": 50}
    )
    reports = []
    with pytest.raises(TouchedError):
        for report in run_trial(config, tmp_path, cache):
            reports.append(report)
    assert [(report.phase, report.finished) for report in reports] == [("training", False)] * 2


def test_the_test_report_holds_every_set_plain_and_with_the_target_s_statistics(
    tmp_path: Path,
    cache: Path,
) -> None:
    config = tiny(method={"mcd": {"hidden_dim": 16}}, evaluation={"test": True, "max_images": 50})
    *_, training, test = run(config, tmp_path, cache)
    assert (training.finished, test.finished, test.phase) == (False, True, "test")
    for name in ("IID", "IID_wo_BG", "target_test"):
        for prefix in ("", "target_batchnorm/"):
            for metric in ("accuracy", "mean_class_accuracy", "head_1_accuracy"):
                assert 0 <= test.metrics[f"{prefix}{name}/{metric}"] <= 1
    assert test.objective == training.objective


def test_predictions_name_every_target_image(tmp_path: Path, cache: Path) -> None:
    config = tiny(evaluation={"test": True, "max_images": 50})
    run(config, tmp_path, cache)
    head, *rows = (tmp_path / "predictions.csv").read_text().splitlines()
    assert head == "image,class,probability" and len(rows) == 898
    cells = [row.split(",") for row in rows]
    target = open_domains(config, cache).target_train
    assert target is not None
    assert [image for image, _, _ in cells] == [target.images.name(i) for i in range(898)]
    assert len({image for image, _, _ in cells}) == 898
    assert {label for _, label, _ in cells} <= set("0123456789")
    assert all(0.1 <= float(probability) <= 1 for _, _, probability in cells)


def test_confusion_matrices_give_the_accuracies(tmp_path: Path, cache: Path) -> None:
    config = tiny(evaluation={"test": True, "max_images": 50})
    *_, test = run(config, tmp_path, cache)
    for name in ("IID", "IID_wo_BG", "target_test"):
        found = TrialFolder(tmp_path).read_confusion(name)
        assert found is not None
        classes, counts = found
        assert classes == list("0123456789")
        right, everything = sum(row[i] for i, row in enumerate(counts)), sum(map(sum, counts))
        assert right / everything == pytest.approx(test.metrics[f"{name}/accuracy"])
        recalls = [row[i] / sum(row) for i, row in enumerate(counts)]
        assert sum(recalls) / 10 == pytest.approx(test.metrics[f"{name}/mean_class_accuracy"])
    assert TrialFolder(tmp_path).read_confusion("no such set") is None


def test_a_confusion_matrix_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = TrialFolder(tmp_path)
    folder.write_confusion("a/b, c", ["one, two", '"three"'], [[1, 2], [3, 40_000]])
    assert folder.read_confusion("a/b, c") == (["one, two", '"three"'], [[1, 2], [3, 40_000]])


# Failures


def test_a_loss_that_is_not_finite_is_named(tmp_path: Path, cache: Path) -> None:
    config = tiny(optimizer={"algorithm": "sgd", "learning_rate": 1e20})
    with pytest.raises(TrialError) as caught:
        run(config, tmp_path, cache)
    assert re.fullmatch(r"loss 'classification' is (nan|inf) by step 2\.", str(caught.value))


def test_predictions_that_are_not_finite_are_a_failure(tmp_path: Path, cache: Path) -> None:
    """The loss is still finite when its step makes the weights useless."""
    config = tiny(
        optimizer={"algorithm": "sgd", "learning_rate": 1e38},
        schedule={"num_epochs": None, "num_steps": 1},
    )
    with pytest.raises(TrialError) as caught:
        run(config, tmp_path, cache)
    assert str(caught.value) == "predictions on source images are not finite after step 1."


def test_a_failed_trial_fails_again_the_same_way(tmp_path: Path, cache: Path) -> None:
    config = tiny(optimizer={"algorithm": "sgd", "learning_rate": 1e20})
    messages = []
    for _ in range(2):
        with pytest.raises(TrialError) as caught:
            run(config, tmp_path, cache)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


# Pre-training


def pretrained(**changes: Any) -> TrialConfig:
    return tiny(initialization=PRETRAINING, **changes)


def phases(reports: list[Report]) -> list[str]:
    return [report.phase for report in reports]


@pytest.fixture
def own_cache(tmp_path: Path, cache: Path) -> Path:
    """A cache with pictures and without pre-trained backbones."""
    run(tiny(), tmp_path / "render", cache)
    own = tmp_path / "own-cache"
    own.mkdir()
    for path in cache.glob("*.npy"):
        (own / path.name).symlink_to(path)
    return own


def test_pretraining_is_made_once_and_used_again(tmp_path: Path, own_cache: Path) -> None:
    first = run(pretrained(), tmp_path / "a", own_cache)
    (made,) = (own_cache / "pretraining").glob("*/best.pt")
    before = made.stat().st_mtime_ns
    second = run(pretrained(method="dann", batch_size=32), tmp_path / "b", own_cache)
    assert phases(first) == ["pretraining"] * 3 + ["training"] * 2
    assert phases(second) == ["training"] * 2
    assert [r.finished for r in first[:3]] == [False] * 3
    assert made.stat().st_mtime_ns == before
    assert not made.with_name("latest.pt").exists()


def test_a_pretrained_trial_starts_from_the_pretrained_backbone(
    tmp_path: Path,
    own_cache: Path,
) -> None:
    still = {"algorithm": "sgd", "learning_rate": 1e-3, "backbone_lr_multiplier": 0.0}
    run(pretrained(optimizer=still), tmp_path / "a", own_cache)
    (made,) = (own_cache / "pretraining").glob("*")
    expected, actual = weights(made, "best.pt"), weights(tmp_path / "a")
    convolutions = [
        name for name in actual if name.startswith("backbone") and name.endswith("weight")
    ]
    assert len(convolutions) > 4
    assert all(torch.equal(actual[name], expected[name]) for name in convolutions)
    assert not torch.equal(actual["classifier.weight"], expected["classifier.weight"])


@pytest.mark.parametrize(
    "change",
    [
        {"method": "mcd"},
        {"optimizer": {"learning_rate": 1.0}},
        {"batch_size": 8},
        {"augmentation": "strong"},
        {"schedule": {"num_epochs": 7}},
        {"selection": {"criterion": "entropy"}},
        {"evaluation": {"max_images": 7, "test": True}},
    ],
)
def test_trials_that_differ_in_what_comes_later_share_a_pretraining(
    change: dict[str, Any],
) -> None:
    assert (
        pretraining_trial(pretrained(**change)).identity()
        == pretraining_trial(tiny(initialization=PRETRAINING, evaluation={})).identity()
    )


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"backbone": "resnet18"},
        {"normalization": "subset_syn"},
        {"settings": {"num_source": 300}},
        {"initialization": {"pretraining": {**PRETRAINING["pretraining"], "batch_size": 32}}},
        {"initialization": {"pretraining": {**PRETRAINING["pretraining"], "task": "digits"}}},
    ],
)
def test_what_decides_a_pretraining(change: dict[str, Any]) -> None:
    config = tiny(**{"initialization": PRETRAINING, **change})
    assert pretraining_trial(config).identity() != pretraining_trial(pretrained()).identity()


def test_a_pretraining_is_a_supervised_trial_on_the_trial_s_source() -> None:
    made = pretraining_trial(pretrained(method="dann"))
    assert (made.method.name, made.task, made.initialization.name) == (
        "supervised",
        pretrained().task,
        "none",
    )
    assert made.selection.criterion.name == "source_validation" and not made.evaluation.test


def test_a_trial_waits_for_another_that_makes_its_pretraining(
    tmp_path: Path,
    own_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits = threading.Event()

    class Lock(FileLock):
        def __enter__(self) -> Any:
            waits.set()
            return super().__enter__()

    maker = run_trial(pretrained(), tmp_path / "maker", own_cache)
    next(maker)
    monkeypatch.setattr(trial_module, "FileLock", Lock)
    found: list[str] = []
    waiter = threading.Thread(
        target=lambda: found.extend(
            phases(run(pretrained(method="dann"), tmp_path / "waiter", own_cache))
        )
    )
    waiter.start()
    assert waits.wait(60) and found == []
    assert [next(maker).phase for _ in range(3)] == ["pretraining", "pretraining", "training"]
    waiter.join()
    assert found == ["training"] * 2


def test_a_pretraining_whose_maker_died_is_gone_on_with(tmp_path: Path, own_cache: Path) -> None:
    whole = tmp_path / "whole-cache"
    whole.mkdir()
    for path in own_cache.glob("*.npy"):
        (whole / path.name).symlink_to(path.resolve())
    expected = run(pretrained(), tmp_path / "whole", whole)
    maker = run_trial(pretrained(method="dann"), tmp_path / "maker", own_cache)
    next(maker)
    maker.close()  # type: ignore[attr-defined]
    assert not list((own_cache / "pretraining").glob("*/done"))
    assert run(pretrained(), tmp_path / "next", own_cache) == expected
    made, again = (next((folder / "pretraining").glob("*")) for folder in (whole, own_cache))
    assert same(weights(made, "best.pt"), weights(again, "best.pt"))


COUNT = """
import sys
from pathlib import Path
from trainables import read_trial_config, run_trial
given, out, cache = map(Path, sys.argv[1:])
print(sum(r.phase == "pretraining" for r in run_trial(read_trial_config(given), out, cache)))
"""


@pytest.mark.slow
def test_processes_that_start_together_pretrain_once(tmp_path: Path, own_cache: Path) -> None:
    (tmp_path / "given.yaml").write_text(pretrained().to_yaml())
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                COUNT,
                str(tmp_path / "given.yaml"),
                str(tmp_path / name),
                str(own_cache),
            ],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for name in "ab"
    ]
    made = [int(process.communicate()[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(made) == [0, 3]
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))


# Weights from files


def test_a_trial_starts_from_a_checkpoint_of_another(tmp_path: Path, cache: Path) -> None:
    run(tiny(seed=1), tmp_path / "first", cache)
    config = tiny(
        initialization={"checkpoint": {"path": str(tmp_path / "first" / "best.pt")}},
        optimizer={"algorithm": "sgd", "backbone_lr_multiplier": 0.0},
    )
    run(config, tmp_path / "second", cache)
    first, second = weights(tmp_path / "first", "best.pt"), weights(tmp_path / "second")
    name = "backbone.trunk.0.weight"
    assert torch.equal(first[name], second[name])


class Harm:
    """What a hostile file would do when it is read with pickle."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path, cache: Path) -> None:
    hostile, done = tmp_path / "hostile.pt", tmp_path / "harm"
    hostile.write_bytes(pickle.dumps(Harm(done), protocol=2))
    torch.save({"networks": Harm(done)}, tmp_path / "zipped.pt")
    for path in (hostile, tmp_path / "zipped.pt"):
        config = tiny(initialization={"checkpoint": {"path": str(path)}})
        with pytest.raises(ValueError, match=f"{path}: not a file of tensors saved with torch"):
            run(config, tmp_path / "trial", cache)
    assert not done.exists()


def test_a_file_without_a_matching_name_is_refused(tmp_path: Path, cache: Path) -> None:
    save_tensors(tmp_path / "other.pt", {"layer1.weight": torch.zeros(3)})
    config = tiny(initialization={"checkpoint": {"path": str(tmp_path / "other.pt")}})
    with pytest.raises(ValueError, match="other.pt: no tensor matches the backbone.*layer1"):
        run(config, tmp_path / "trial", cache)


def test_a_file_of_another_width_is_refused(tmp_path: Path, cache: Path) -> None:
    run(tiny(), tmp_path / "first", cache)
    config = tiny(
        backbone={"small_cnn": {"width": 5, "feature_dim": 16}},
        initialization={"checkpoint": {"path": str(tmp_path / "first" / "best.pt")}},
    )
    with pytest.raises(ValueError, match=r"best.pt: .* has shape \(4, 3, 3, 3\).*\(5, 3, 3, 3\)"):
        run(config, tmp_path / "trial", cache)


# The command


class Command:
    """``python -m trainables.run`` in this process."""

    def __init__(self, folder: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.cache = cache
        self.capsys = capsys

    def __call__(self, *arguments: str, out: str = "out") -> tuple[int, list[str], list[str]]:
        """Exit code, and lines of both outputs."""
        self.capsys.readouterr()
        code = main([*arguments, "--out", str(self.folder / out), "--cache", str(self.cache)])
        said = self.capsys.readouterr()
        return code, said.out.splitlines(), said.err.replace(f"{self.folder}/", "").splitlines()

    def write(self, config: TrialConfig) -> str:
        path = self.folder / "trial.yaml"
        path.write_text(config.to_yaml())
        return str(path)


@pytest.fixture
def command(tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(tmp_path, cache, capsys)


def recorded(config: TrialConfig, folder: Path, cache: Path) -> Path:
    """A study's records with this trial in them, as ``0007``."""
    trial = RunningTrial("0007", "search", config.method.name, config)
    trial.reports = list(run_trial(config, folder / "recorded", cache))
    file = RecordFile(folder / "records.jsonl")
    file.append(make_record(trial, "complete", None))
    return file.path


def test_the_command_runs_a_trial_and_prints_its_reports(command: Command) -> None:
    code, lines, errors = command("--config", command.write(tiny()))
    assert (code, errors) == (0, [])
    assert [line.split("  ")[0] for line in lines] == ["training epoch 1/2", "training epoch 2/2"]
    assert "source_val/accuracy 0." in lines[0]


def test_the_same_command_again_repeats_what_is_done(
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = command("--config", command.write(tiny()))
    monkeypatch.setattr(METHODS["no_adaptation"], "update", None)
    assert command("--config", command.write(tiny())) == first


def test_a_recorded_trial_is_reproduced_bit_for_bit(
    command: Command,
    tmp_path: Path,
    cache: Path,
) -> None:
    config = tiny(method="dann", evaluation={"max_images": 50, "test": True})
    records = recorded(config, tmp_path, cache)
    code, lines, _ = command("--record", str(records), "--trial", "0007")
    content = json.loads(records.read_text())
    count = sum(len(e["metrics"]) for e in content["evaluations"]) + len(content["test"])
    assert len(content["test"]) == 12
    assert (code, lines[-1]) == (0, f"All {count} numbers are bit-equal to the record's.")


@pytest.mark.parametrize("part", ["evaluations", "test"])
def test_a_number_that_differs_is_shown(
    command: Command,
    tmp_path: Path,
    cache: Path,
    part: str,
) -> None:
    records = recorded(tiny(evaluation={"max_images": 50, "test": True}), tmp_path, cache)
    content = json.loads(records.read_text())
    metrics = content["test"] if part == "test" else content["evaluations"][1]["metrics"]
    name = "target_test/accuracy" if part == "test" else "loss/classification"
    metrics[name] += 0.25
    records.write_text(json.dumps(content) + "\n")
    code, lines, _ = command("--record", str(records), "--trial", "0007")
    phase = "test" if part == "test" else "training"
    assert code == 0 and lines[-1].startswith(
        f"Largest difference from the record: 0.25 ({phase} evaluation 2, {name}), among "
    )


def test_a_record_that_is_being_written_does_not_hinder(
    command: Command,
    tmp_path: Path,
    cache: Path,
) -> None:
    records = recorded(tiny(), tmp_path, cache)
    records.write_bytes(records.read_bytes() + b'{"id": "00')
    assert command("--record", str(records), "--trial", "0007")[0] == 0


def test_a_trial_that_fails_ends_with_code_1(command: Command) -> None:
    config = tiny(optimizer={"algorithm": "sgd", "learning_rate": 1e20})
    code, _, errors = command("--config", command.write(config))
    assert code == 1
    assert len(errors) == 1 and errors[0].startswith("The trial failed: loss 'classification' is")


def test_an_interrupted_trial_ends_with_code_130(
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(METHODS["no_adaptation"], "update", interrupt)
    assert command("--config", command.write(tiny()))[::2] == (
        130,
        ["Interrupted; the same command continues from the last evaluation."],
    )


def bad(command: Command, *arguments: str, out: str = "out") -> str:
    code, lines, errors = command(*arguments, out=out)
    assert (code, lines, len(errors)) == (2, [], 1)
    return errors[0]


def test_bad_trial_files(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "trial.yaml"
    assert bad(command, "--config", str(path)) == "trial.yaml: No such file or directory."
    for text, line in (
        ("task: [\n", "not YAML: "),
        ("", "must hold a trial's settings"),
        ("task: digit\n", "task: unknown task 'digit'. Did you mean 'digits'?"),
        ("task: digits\nseed: 1.5\n", "seed: must be a valid integer, got 1.5."),
    ):
        path.write_text(text)
        assert bad(command, "--config", str(path)).startswith(f"trial.yaml: {line}")
    assert not (tmp_path / "out").exists()


def test_bad_records(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    given = ("--record", str(path), "--trial", "0003")
    assert bad(command, "--record", str(path)) == "--record needs --trial ID."
    assert bad(command, *given) == "records.jsonl: No such file or directory."
    for text in ("{\n", "3\n", "{}\n", '{"id": "0003"}\n'):
        path.write_text(text)
        assert bad(command, *given).startswith(
            "records.jsonl: must be a study's records.jsonl, and is not ("
        )
    path.write_text('{"id": "0001", "config": {}, "evaluations": [], "test": {}}\n')
    assert bad(command, *given) == "records.jsonl: no trial '0003'. It has: 0001."


def test_bad_data(command: Command, tmp_path: Path) -> None:
    config = validate(
        TrialConfig,
        {"task": {"folders": {"source": str(tmp_path / "nowhere"), "target": str(tmp_path)}}},
    )
    assert (
        bad(command, "--config", command.write(config))
        == "source: must be a folder, got nowhere, which does not exist."
    )


def test_another_number_of_workers(command: Command) -> None:
    config = tiny(resources={"workers": 2})
    assert bad(command, "--config", command.write(config)) == (
        "resources/workers: must be the number of processes, 1, got 2. Start the trial by: "
        "torchrun --nproc-per-node 2 -m trainables.run …"
    )


def test_a_gpu_that_is_not_there(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = tiny(resources={"gpus_per_worker": 1.0})
    assert (
        bad(command, "--config", command.write(config))
        == "resources/gpus_per_worker: must be 0 on a machine without a GPU, got 1."
    )


def test_a_folder_that_cannot_be_written(command: Command, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    assert (
        bad(command, "--config", command.write(tiny()), out="taken")
        == "taken: cannot be written to (File exists)."
    )


@pytest.mark.slow
def test_two_workers_under_torchrun_train_one_trial(tmp_path: Path, cache: Path) -> None:
    config = tiny(
        method="dann", resources={"workers": 2}, evaluation={"max_images": 51, "test": True}
    )
    (tmp_path / "trial.yaml").write_text(config.to_yaml())
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            "2",
            "-m",
            "trainables.run",
            "--config",
            str(tmp_path / "trial.yaml"),
            "--out",
            str(tmp_path / "out"),
            "--cache",
            str(cache),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert [line.split("  ")[0] for line in done.stdout.splitlines()] == [
        "training epoch 1/2",
        "training epoch 2/2",
        "test epoch 2/2",
    ]
    state = load_tensors(tmp_path / "out" / "latest.pt")
    (alone, _) = run(tiny(method="dann", evaluation={"max_images": 51}), tmp_path / "one", cache)
    shared = state["progress"]["reports"][0]["metrics"]
    assert set(alone.metrics) == set(shared)
    # batch statistics are each worker's own, so the first epoch agrees only roughly
    assert shared["loss/classification"] == pytest.approx(
        alone.metrics["loss/classification"], rel=0.2
    )


def test_a_report_survives_being_text(tmp_path: Path, cache: Path) -> None:
    report = next(iter(run_trial(tiny(), tmp_path, cache)))
    assert Report(**json.loads(json.dumps(asdict(report)))) == report
