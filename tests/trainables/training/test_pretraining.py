"""Pre-training happens once for all trials that share it, whoever dies or waits."""

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from tests.support.spy_tasks import tiny
from tests.support.trial_runs import PRETRAINING, run, same, weights
from trainables.training import trial as trial_module
from trainables.training.report import Report
from trainables.training.trial import run_trial
from trainables.trial_config import TrialConfig, pretraining_trial

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.usefixtures("one_thread")


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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
