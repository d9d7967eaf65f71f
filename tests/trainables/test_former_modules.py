"""Modules that have moved are importable under the names that they had in version 0.1."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from trainables.former_modules import FORMER_CLASSES, FORMER_NAMES, SPLIT

PLUGIN = """
from trainables.batch import Batch
from trainables.losses import entropy, ramp_up
from trainables.methods.base import Method, MethodConfig
from trainables.networks import Backbone, Networks, Prediction
from trainables.optimization import MakeOptimizer
from trainables.runtime import Runtime
from trainables.evaluation import Evaluation
from trainables.tasks.digits import Digits
from trainables.schema import InvalidConfig
from trainables.trial import TrialFailed
assert issubclass(InvalidConfig, ValueError) and issubclass(TrialFailed, RuntimeError)
"""
"""Imports that the documentation of version 0.1 showed."""


@pytest.mark.parametrize("former, present", FORMER_NAMES.items())
def test_former_module_has_the_same_contents(
    former: str, present: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, former, raising=False)
    with pytest.deprecated_call(match=f"{former} is now {present}; "):
        old = vars(import_module(former))
    for part in (present, *SPLIT.get(former, ())):
        new = vars(import_module(part))
        public = [name for name in new if not name.startswith("_")]
        assert public and all(old[name] is new[name] for name in public)


@pytest.mark.parametrize(
    "module, former",
    [
        ("trainables.schema", "InvalidConfig"),
        ("trainables.measuring", "Meter"),
        ("trainables.store", "StoreFailed"),
        ("trainables.trial", "TrialFailed"),
    ],
)
def test_renamed_class_is_in_its_former_module(
    module: str, former: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.deprecated_call():
        old = vars(import_module(module))
    present = [import_module(name) for name in (FORMER_NAMES[module], *SPLIT.get(module, ()))]
    assert any(old[former] is vars(each).get(FORMER_CLASSES[former]) for each in present)


@pytest.mark.slow
def test_plugin_of_the_first_version_is_imported_and_told(tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text(PLUGIN)
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", "import trainables, plugin"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": f"{Path(__file__).parents[2]}:{tmp_path}"},
    )
    assert done.returncode == 0, done.stderr
    # the line of the plugin is what is shown, and not one of the import system
    assert (
        f"{tmp_path}/plugin.py:2: DeprecationWarning: module trainables.batch is now"
        in done.stderr
    )


@pytest.mark.parametrize(
    "package, former, present",
    [("study", "StudyFailed", "StudyError"), ("trainables", "TrialFailed", "TrialError")],
)
def test_errors_that_users_catch_keep_their_names(package: str, former: str, present: str) -> None:
    module = import_module(package)
    with pytest.deprecated_call(match=f"{package}.{former} is now {package}.{present}; "):
        assert getattr(module, former) is getattr(module, present)


def test_an_unknown_module_stays_unknown() -> None:
    with pytest.raises(ModuleNotFoundError, match="trainables.batches"):
        import_module("trainables.batches")
