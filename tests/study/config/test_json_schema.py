"""The JSON schema of spaces accepts what a study accepts and rejects what it rejects."""

import copy
import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from study.config.json_schema import space_schema
from study.config.reading import parse_studies, question_of, shipped_spaces
from trainables.configuration.yaml_file import read_yaml

SPACES = {
    **shipped_spaces(),
    **{
        path.stem: path
        for path in (Path(__file__).parents[2] / "support" / "spaces").glob("*.yaml")
    },
}
SHIPPED = resources.files("search_spaces") / "space.schema.json"
LINE = "# yaml-language-server: $schema=./space.schema.json"
BASE = """
task: {digits: {num_source: 200}}
fixed:
  backbone: small_cnn
  initialization: {pretraining: {schedule: {num_epochs: 2}}}
search:
  optimizer: {learning_rate: {log_uniform: [1.0e-4, 3.0e-3]}, algorithm: {choice: [sgd, adam]}}
  augmentation: {choice: [weak, strong]}
  method:
    choice:
      no_adaptation:
      mcd: {dropout: 0.5, num_generator_steps: {integer: [1, 4]}}
"""
GOOD = (
    "sampler: random",
    "sampler: {tpe: {num_startup_trials: 3}}",
    "pruner: {none: }",
    "concurrency: auto",
    "concurrency: 2",
    "criterion: oracle",
    "task: digits",
    "fixed: {schedule: {num_epochs: null, num_steps: 3}}",
    "fixed: {schedule: {decay: step, decay_epochs: [2, 4]}}",
    "fixed: {target_augmentation: null}",
    "fixed: {backbone: {small_cnn: }}",
    "fixed: {method: trainables.methods.mcd.MCD}\nsearch: {}",
    "fixed: {}\nsearch: {backbone: {timm: {name: {choice: [resnet10t, resnet14t]}}}}",
    "search: {task: {digits: {scale: {limits: [{uniform: [0.3, 0.6]}, 0.8]}}}}",
    "search: {optimizer: {clip_norm: {choice: [null, 1.0, 2]}}}",
    "search: {optimizer: {clip_norm: {uniform: [1, 2.5]}}}",
    "search: {optimizer: {weight_decay: {integer: [0, 2]}}}",
    "search: {batch_size: {log_integer: [8, 64]}}",
    "search: {selection: {source_accuracy_floor: {uniform: [0.0, 0.5]}}}",
    "search: {method: {rca: {vat: {xi: {log_uniform: [1.0e-6, 0.1]}}}}}",
    "search: {cases: {slow: {method: mcd, optimizer: {learning_rate: 0.1}}, plain: }}",
    "search: {optimizer: {cases: {slow: {learning_rate: 0.1}, fast: {learning_rate: 0.2}}}}",
    "search: {optimizer: {momentum: 0.5, cases: {slow: {learning_rate: {uniform: [0.1, 1]}}}}}",
    "fixed: {}\nsearch: {initialization: {cases: {official: imagenet, ours: {pretraining: }}}}",
    "search: {task: {digits: {cases: {few: {num_test: 40}, many: {num_test: 400}}}}}",
)
"""Replacements of keys at the top of :data:`BASE`."""
BAD = (
    "num_trails: 3",
    "num_trials: 0",
    "num_trials: 2.5",
    "concurrency: many",
    "sampler: tpee",
    "sampler: {tpe: {num_startup: 3}}",
    "criterion: {bnm: {weight: 1}}",
    "task: digit",
    "task: {digits: {scale: {limit: [0.3, 0.6]}}}",
    "task: {digits: {}, folders: {}}",
    "task: folders",
    "equal_budget: 1",
    "fixed: {optimiser: {}}",
    "fixed: {optimizer: {learning_rat: 0.1}}",
    "fixed: {optimizer: {learning_rate: 1e-4}}",
    "fixed: {optimizer: {learning_rate: 0}}",
    "fixed: {optimizer: {learning_rate: {uniform: [0.1, 0.2]}}}",
    "fixed: {seed: 1}",
    "fixed: {task: digits}",
    "fixed: {selection: {criterion: bnm}}",
    "fixed: {initialization: {pretraining: {schedule: {epochs: 2}}}}",
    "fixed: {backbone: timm}",
    "fixed: {augmentation: {weak: {}, strong: {}}}",
    "fixed: {schedule: {decay: sometimes}}",
    "fixed: {schedule: {decay_epochs: [2, 0]}}",
    "search: {metod: {choice: [dann, mcd]}}",
    "search: {method: {choice: [dann, mdc]}}",
    "search: {method: {choice: {dann: {domain_wait: 1.0}}}}",
    "search: {method: {choice: {dann: {domain_weight: {uniform: [0.0]}}}}}",
    "search: {method: {choice: {mdc: {}}}}",
    "search: {method: {choice: []}}",
    "search: {method: {choice: {}}}",
    "search: {method: {choice: {dann: 3}}}",
    "search: {method: {mcd: {dropout: {uniform: [0.0, 1.5]}}}}",
    "search: {method: {mcd: {num_generator_steps: {uniform: [1, 4]}}}}",
    "search: {method: {mcd: {num_generator_steps: {integer: [1, 2.5]}}}}",
    "search: {optimizer: {learning_rate: {log_uniform: [1e-4, 1e-2]}}}",
    "search: {optimizer: {learning_rate: {loguniform: [0.1, 0.2]}}}",
    "search: {optimizer: {learning_rate: {uniform: [0.1, 0.2], log: true}}}",
    "search: {optimizer: {algorithm: {uniform: [0, 1]}}}",
    "search: {seed: {integer: [0, 3]}}",
    "search: {task: {digits: {scale: {limits: [{uniform: [0.3, 0.6]}]}}}}",
    "search: {cases: {slow: {metod: mcd}}}",
    "search: {cases: {}}",
    "search: {cases: [a, b]}",
    "search: {optimizer: {cases: {slow: {learning_rat: 0.1}}}}",
    "fixed: {}\nsearch: {initialization: {cases: {official: imagenett}}}",
    "fixed: {optimizer: {cases: {slow: {learning_rate: 0.1}}}}",
)


@pytest.fixture(scope="module")
def validator() -> Draft7Validator:
    schema = space_schema()
    Draft7Validator.check_schema(schema)
    return Draft7Validator(schema)


def problems(validator: Draft7Validator, space: Any) -> list[str]:
    return [
        f"{list(error.absolute_path)}: {error.message[:150]}"
        for error in validator.iter_errors(space)
    ]


def changed(change: str) -> dict[str, Any]:
    return {**copy.deepcopy(yaml.safe_load(BASE)), **yaml.safe_load(change)}


def test_shipped_schema_is_up_to_date() -> None:
    assert json.loads(SHIPPED.read_text()) == space_schema(), (
        "run: python -m study.schema > search_spaces/space.schema.json"
    )


@pytest.mark.parametrize("name", SPACES)
def test_every_space_is_accepted(validator: Draft7Validator, name: str) -> None:
    assert problems(validator, yaml.safe_load(SPACES[name].read_text())) == []


@pytest.mark.parametrize("name", shipped_spaces())
def test_a_space_with_its_defaults_filled_in_is_accepted(
    validator: Draft7Validator, name: str
) -> None:
    for study, _ in parse_studies(read_yaml(SPACES[name]), []):
        assert problems(validator, study.model_dump(mode="json")) == []


@pytest.mark.parametrize("change", GOOD)
def test_what_a_study_accepts_is_accepted(
    validator: Draft7Validator, change: str, tmp_path: Path
) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump(changed(change)))
    parse_studies(read_yaml(path), [])
    assert problems(validator, changed(change)) == []


@pytest.mark.parametrize("change", BAD)
def test_what_a_study_rejects_is_rejected(
    validator: Draft7Validator, change: str, tmp_path: Path
) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump(changed(change)))
    with pytest.raises(ValueError):
        parse_studies(read_yaml(path), [])
    assert problems(validator, changed(change)) != []


def test_a_search_is_asked_for(validator: Draft7Validator) -> None:
    space = {name: value for name, value in changed("seed: 1").items() if name != "search"}
    assert problems(validator, space) == ["[]: 'search' is a required property"]


@pytest.mark.parametrize(
    "tasks, is_right",
    [
        ({}, False),
        ({"task": "digits"}, True),
        ({"tasks": ["digits", {"synsl": {}}]}, True),
        ({"task": "digits", "tasks": ["synsl"]}, False),
        ({"tasks": []}, False),
        ({"tasks": ["digit"]}, False),
        ({"tasks": None}, False),
    ],
)
def test_either_a_task_or_several(
    validator: Draft7Validator, tasks: dict[str, Any], is_right: bool
) -> None:
    space = {**changed("seed: 1"), **tasks}
    if "task" not in tasks:
        del space["task"]
    assert (problems(validator, space) == []) is is_right


def paths(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Of every key in a space, but of the user's own names."""
    if isinstance(value, list):
        return [path for i, inner in enumerate(value) for path in paths(inner, (*place, i))]
    if not isinstance(value, dict):
        return []
    own = [] if place[-1:] == ("cases",) else [(*place, key) for key in value]
    return own + [path for key, inner in value.items() for path in paths(inner, (*place, key))]


@pytest.mark.parametrize("name", SPACES)
def test_every_misspelt_key_is_found(validator: Draft7Validator, name: str) -> None:
    space = yaml.safe_load(SPACES[name].read_text())
    for *place, key in paths(space):
        wrong = copy.deepcopy(space)
        parent = wrong
        for step in place:
            parent = parent[step]
        parent[f"{key}x"] = parent.pop(key)
        assert problems(validator, wrong) != [], (place, key)


def test_every_key_is_described() -> None:
    for name, definition in space_schema()["$defs"].items():
        if re.match(r"(fixed|search|space)\.\w+Config", name):
            mute = [
                key
                for key, value in definition["properties"].items()
                if key != "cases" and "description" not in value
            ]
            assert mute == [], name


@pytest.mark.parametrize("name", shipped_spaces())
def test_spaces_name_the_schema_and_keep_their_question(name: str) -> None:
    lines = SPACES[name].read_text().splitlines()
    head = lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))]
    assert head[-1] == LINE
    assert question_of(SPACES[name]).endswith("?") and "schema" not in question_of(SPACES[name])
