"""A trial from configuration to last report: identities, kills and refusals."""

import json
import pickle
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.image_files import write_tree
from tests.support.spy_tasks import TouchedError, timeless, tiny
from tests.support.trial_runs import PRETRAINING, run, same, weights
from trainables.checkpointing.tensors import load_tensors, save_tensors
from trainables.checkpointing.trial_folder import TrialFolder
from trainables.configuration.schema import validate
from trainables.criteria import CRITERIA
from trainables.methods import METHODS
from trainables.training.domains import open_domains
from trainables.training.report import Report, TrialError
from trainables.training.trainer import Trainer
from trainables.training.trial import run_trial
from trainables.trial_config import TrialConfig, read_trial_config

pytestmark = pytest.mark.usefixtures("one_thread")

# Reports


def test_a_trial_reports_after_every_epoch(tmp_path: Path, cache: Path) -> None:
    reports = run(tiny(), tmp_path, cache)
    assert [
        (r.phase, r.evaluation, r.num_evaluations, r.epoch, r.num_epochs, r.finished)
        for r in reports
    ] == [("training", 1, 2, 1.0, 2.0, False), ("training", 2, 2, 2.0, 2.0, True)]


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_without_target_labels_all_but_the_oracle_is_reported(tmp_path: Path, cache: Path) -> None:
    settings: dict[str, Any] = {"method": "dann", "evaluation": {"max_images": 50, "test": True}}
    labelled = run(tiny(**settings), tmp_path / "a", cache)
    unlabelled = run(tiny("tests.support.spy_tasks.Unlabelled", **settings), tmp_path / "b", cache)
    assert same(weights(tmp_path / "a", "best.pt"), weights(tmp_path / "b", "best.pt"))
    missing = set(labelled[0].metrics) - set(unlabelled[0].metrics)
    assert missing == {"criterion/oracle"}
    assert unlabelled[-1].metrics["IID/accuracy"] == labelled[-1].metrics["IID/accuracy"]


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_below_the_source_floor_every_checkpoint_ranks_last(tmp_path: Path, cache: Path) -> None:
    for method in ("no_adaptation", "dann"):
        config = tiny(method=method, selection={"source_accuracy_floor": 1.0})
        shortfalls = []
        for report in run(config, tmp_path / method, cache):
            shortfalls.append(1.0 - report.metrics["source_val/accuracy"])
            assert report.objective == -min(shortfalls) < 0 < report.metrics["criterion/bnm"]


# Test sets


@pytest.mark.slow
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


@pytest.mark.slow
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


def test_a_report_survives_being_text(tmp_path: Path, cache: Path) -> None:
    report = next(iter(run_trial(tiny(), tmp_path, cache)))
    assert Report(**json.loads(json.dumps(asdict(report)))) == report
