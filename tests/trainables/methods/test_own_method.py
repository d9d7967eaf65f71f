"""The example of CONTRIBUTING: a user's own method by its dotted name, with the same checks."""

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from study.config.reading import parse_studies
from tests.contracts import MethodContract
from trainables.configuration.schema import ConfigError, validate
from trainables.configuration.yaml_file import read_yaml
from trainables.training.trial import run_trial
from trainables.trial_config import TrialConfig

CONTRIBUTING = Path(__file__).parents[3] / "CONTRIBUTING.md"
NAME = "mypackage.mymethod.EntropyMinimization"


def block(language: str, beginning: str) -> str:
    """The code block of CONTRIBUTING that starts with a line."""
    pattern = rf"^ *```{language}\n( *{re.escape(beginning)}\n.*?)^ *```$"
    found = re.search(pattern, CONTRIBUTING.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    return textwrap.dedent(found[1])


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's package with the example in it."""
    folder = tmp_path / "site" / "mypackage"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "mymethod.py").write_text(block("python", "# mypackage/mymethod.py"))
    monkeypatch.syspath_prepend(str(folder.parent))


def trial(method: object) -> TrialConfig:
    return validate(
        TrialConfig,
        {
            "task": {"digits": {"num_source": 200, "num_test": 20}},
            "backbone": {"small_cnn": {"width": 4, "feature_dim": 16}},
            "optimizer": {"algorithm": "adamw", "learning_rate": 1e-3},
            "schedule": {"num_epochs": None, "num_steps": 4, "decay": "constant"},
            "evaluation": {"interval_steps": 4},
            "method": method,
        },
    )


@pytest.mark.slow
def test_example_trains_and_reports_its_losses(tmp_path: Path) -> None:
    reports = list(run_trial(trial(NAME), tmp_path / "trial", tmp_path / "cache"))
    assert reports[-1].finished
    assert {"loss/classification", "loss/entropy"} <= set(reports[-1].metrics)


@pytest.mark.slow
def test_example_without_weight_takes_no_adaptations_steps(tmp_path: Path) -> None:
    losses = []
    for method in ({NAME: {"entropy_weight": 0.0}}, "no_adaptation"):
        reports = run_trial(trial(method), tmp_path / str(len(losses)), tmp_path / "cache")
        losses.append(list(reports)[-1].metrics["loss/classification"])
    assert losses[0] == losses[1]


def test_example_keeps_to_the_contract(tmp_path: Path) -> None:
    names: dict[str, Any] = {"MethodContract": MethodContract}
    exec("from mypackage.mymethod import EntropyMinimization", names)
    exec(block("python", "class TestEntropyMinimization(MethodContract):"), names)
    contract = names["TestEntropyMinimization"]()
    contract.test_settings_are_strict_documented_and_stored_without_loss()
    contract.test_resumes_bit_for_bit(2, tmp_path)
    contract.test_every_parameter_is_trained_within_two_epochs()


def test_settings_of_an_own_method_are_checked_like_any() -> None:
    with pytest.raises(
        ConfigError,
        match=(
            f"method/{NAME}/entropy_wait: unknown key 'entropy_wait'. "
            "Did you mean 'entropy_weight'?"
        ),
    ):
        trial({NAME: {"entropy_wait": 0.1}})


def test_dotted_name_of_something_else_is_refused() -> None:
    with pytest.raises(ConfigError, match="method 'collections.Counter' must be a"):
        trial("collections.Counter")


def test_space_of_the_example_draws_its_setting(tmp_path: Path) -> None:
    space = yaml.safe_load(block("yaml", "search:"))
    space |= {"task": "digits", "fixed": {"backbone": "small_cnn"}}
    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump(space))
    ((_, parsed),) = parse_studies(read_yaml(path), [])
    assert f"method/{NAME}/entropy_weight" in parsed.tree.parameters()
