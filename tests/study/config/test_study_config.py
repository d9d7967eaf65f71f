"""Space files: what they say, and where they are wrong."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from study.config.reading import question_of, read_studies, read_study, shipped_spaces
from study.config.study_config import StudyConfig, parse_duration
from study.spaces.search_space import SearchSpace
from trainables.backbones import BACKBONES
from trainables.configuration.schema import ConfigError, validate
from trainables.configuration.yaml_file import read_yaml
from trainables.criteria import SELECTORS
from trainables.methods import METHODS
from trainables.tasks import TASKS
from trainables.trial_config import TrialConfig, read_trial_config

SPACE = """\
# Does anything help?
task: digits
criterion: entropy
num_trials: 6
fixed:
  backbone: small_cnn
  schedule: {num_epochs: 1}
search:
  optimizer:
    learning_rate: {log_uniform: [1.0e-4, 1.0e-2]}
  batch_size:
    choice:
      - 32
      - 64
  method:
    choice:
      no_adaptation: {}
      dann:
        domain_weight: {uniform: [0.5, 1.0]}
"""
KEYS = ", ".join(sorted(StudyConfig.model_fields))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "space.yaml"
    path.write_text(SPACE)
    return path


def wrong(path: Path, text: str, *overrides: str) -> list[str]:
    """What is said of a file of this text, without the folder that it is in."""
    path.write_text(text)
    with pytest.raises(ValueError) as caught:
        read_study(str(path), list(overrides))
    return str(caught.value).replace(f"{path.parent}/", "").splitlines()


def changed(old: str, new: str) -> str:
    assert SPACE.count(old) == 1
    return SPACE.replace(old, new)


# What a space says


def test_task_criterion_and_seed_are_every_trial_s(file: Path) -> None:
    study, space = read_study(str(file), ["seed=7"])
    for config in space.probe_configs():
        assert (config.task.name, config.selection.criterion.name, config.seed) == (
            "digits",
            "entropy",
            7,
        )
    assert study.num_trials == 6 and study.final_seeds == 3


def test_the_source_floor_stays_settable(file: Path) -> None:
    file.write_text(
        changed(
            "backbone: small_cnn",
            "backbone: small_cnn\n  selection: {source_accuracy_floor: 0.25}",
        )
    )
    _, space = read_study(str(file), [])
    for config in space.probe_configs():
        assert config.selection.source_accuracy_floor == 0.25
        assert config.selection.criterion.name == "entropy"


def test_by_default_bnm_selects_above_a_floor(file: Path) -> None:
    file.write_text(changed("criterion: entropy\n", ""))
    _, space = read_study(str(file), [])
    config = next(iter(space.probe_configs()))
    assert config.selection.criterion.name == "bnm"
    assert config.selection.source_accuracy_floor == 0.5


def test_a_resolved_space_is_the_same_study(file: Path) -> None:
    study, _ = read_study(str(file), ["num_trials=3"])
    file.write_text(yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False))
    assert read_study(str(file), [])[0] == study


def test_several_tasks_are_a_study_each(file: Path) -> None:
    one, other = read_study(str(file), [])[0], {"digits": {"num_source": 50}}
    several = read_studies(str(file), ["task=null", "tasks=[synsl, {digits: {num_source: 50}}]"])
    assert [study for study, _ in several] == [
        one.model_copy(update={"task": task}) for task in ("synsl", other)
    ]
    assert [{config.task.name for config in space.probe_configs()} for _, space in several] == [
        {"synsl"},
        {"digits"},
    ]


def test_where_one_task_is_meant_several_are_refused(file: Path) -> None:
    assert wrong(file, changed("task: digits", "tasks: [digits, synsl]")) == [
        "space.yaml: tasks: must be a single task here, got digits, synsl. "
        "Choose one with --set tasks=[digits]."
    ]
    assert read_study(str(file), ["tasks=[digits]"])[0].task == "digits"


def probes(space: SearchSpace) -> list[TrialConfig]:
    return list(space.probe_configs())


@pytest.mark.parametrize("name", shipped_spaces())
def test_a_shipped_space_is_valid_and_resolves_to_itself(name: str) -> None:
    for study, space in read_studies(name, []):
        text = yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False)
        again = validate(StudyConfig, yaml.safe_load(text))
        assert again == study and probes(again.space()) == probes(space) != []


@pytest.mark.parametrize("name", shipped_spaces())
def test_a_shipped_space_asks_a_question_and_shows_its_command(name: str) -> None:
    path = shipped_spaces()[name]
    question = question_of(path)
    assert question.endswith("?") and len(question) > 20
    head = [line for line in path.read_text().splitlines() if line.startswith("#   ")]
    assert f"python -m study.run --space {name}" in "\n".join(head)


@pytest.mark.parametrize("name", shipped_spaces())
def test_trials_of_a_shipped_space_survive_yaml(name: str, tmp_path: Path) -> None:
    path = tmp_path / "trial.yaml"
    for config in (each for _, space in read_studies(name, []) for each in probes(space)):
        path.write_text(config.to_yaml())
        again = read_trial_config(path)
        assert again == config and again.identity() == config.identity()


def test_a_question_ends_where_the_command_begins(file: Path) -> None:
    file.write_text("# Which is\n# best?\n#\n#   python …\n# Not this.\ntask: digits\n")
    assert question_of(file) == "Which is best?"


# Values of the command line


def test_a_value_is_overridden(file: Path) -> None:
    study, space = read_study(
        str(file),
        [
            "num_trials=3",
            "fixed.schedule.num_epochs=2",
            "fixed.backbone.small_cnn.width=4",
            "fixed.evaluation.max_images=50",
            "search.method.choice.dann.domain_weight=0.25",
            "search.batch_size={integer: [8, 9]}",
        ],
    )
    assert study.num_trials == 3
    for config in space.probe_configs():
        assert config.schedule.num_epochs == 2 and config.evaluation.max_images == 50
        assert config.backbone.config.model_dump()["width"] == 4
        assert config.batch_size in (8, 9)
        assert getattr(config.method.config, "domain_weight", 0.25) == 0.25
    assert "method/dann/domain_weight" not in space.tree.parameters()


@pytest.mark.parametrize(
    "override, line",
    [
        ("num_trials", "--set num_trials: must be section.key=value."),
        ("=3", "--set =3: must be section.key=value."),
        ("fixed..backbone=3", "--set fixed..backbone=3: must be section.key=value."),
        ("seed=[1", "--set seed=[1: the value is not YAML."),
        ("num_trials.x=3", "--set num_trials.x=3: 'num_trials' is 6 and has no keys."),
        ("num_trials=0", "--set: num_trials: must be greater than 0, got 0."),
        (
            "num_trial=3",
            "--set: num_trial: unknown key 'num_trial'. Did you mean 'num_trials'? "
            f"Known: {KEYS}.",
        ),
        (
            "fixd.schedule.num_epochs=3",
            f"--set: fixd: unknown key 'fixd'. Did you mean 'fixed'? Known: {KEYS}.",
        ),
        (
            "fixed.schedul.num_epochs=3",
            "--set: fixed/schedul: unknown key 'schedul'. Did you mean "
            "'schedule'? Known: "
            f"{', '.join(sorted(TrialConfig.model_fields))}.",
        ),
        (
            "fixed.optimizer.weight_decay=1e-4",
            "--set: fixed/optimizer/weight_decay: must be a valid number, got '1e-4'. YAML "
            "reads 1e-4 "
            "as text: write 1.0e-4, without quotes.",
        ),
        (
            "search.method.choice.dann.domain_weight={uniform: [-1.0, 1.0]}",
            "--set: search/method/choice/dann/domain_weight: must be greater than or equal to "
            "0, got "
            "-1.0.",
        ),
        ("time_limit=2", "--set: time_limit: must be a time such as 90m, 2h or 1d12h, got 2."),
        ("time_limit=0h", "--set: time_limit: must be a time such as 90m, 2h or 1d12h, got '0h'."),
        (
            "time_limit=soon",
            "--set: time_limit: must be a time such as 90m, 2h or 1d12h, got 'soon'.",
        ),
        ("epoch_limit=0", "--set: epoch_limit: must be greater than 0, got 0."),
        ("concurrency=0", "--set: concurrency: must be auto or an integer above 0, got 0."),
    ],
)
def test_what_is_wrong_with_an_override(file: Path, override: str, line: str) -> None:
    assert wrong(file, SPACE, override) == [line]


def test_a_mistake_of_the_file_is_not_the_override_s(file: Path) -> None:
    assert wrong(file, changed("num_trials: 6", "num_trials: 0"), "seed=3") == [
        "space.yaml:4: num_trials: must be greater than 0, got 0."
    ]


# What is wrong with a file


@pytest.mark.parametrize(
    "text, line",
    [
        ("", "space.yaml: is empty."),
        ("# nothing but words\n", "space.yaml: is empty."),
        ("- task\n", "space.yaml:1: must be a mapping of keys such as task and search."),
        ("digits\n", "space.yaml:1: must be a mapping of keys such as task and search."),
        (
            "task: [digits\nsearch: {}\n",
            "space.yaml:2: not YAML: expected ',' or ']', but got ':'.",
        ),
        (
            "task: digits\n\tsearch: {}\n",
            "space.yaml:2: not YAML: found character '\\t' that cannot start any token.",
        ),
        ("task: digits\n" + SPACE, "space.yaml:3: key 'task' is given twice, first in line 1."),
        (
            changed("num_trials: 6", "num_trials: 0"),
            "space.yaml:4: num_trials: must be greater than 0, got 0.",
        ),
        (
            changed("num_trials: 6", "num_trials: many"),
            "space.yaml:4: num_trials: must be a valid integer, got 'many'.",
        ),
        (
            changed("num_trials: 6", "num_trails: 6"),
            "space.yaml:4: num_trails: unknown key 'num_trails'. Did you mean 'num_trials'? "
            f"Known: {KEYS}.",
        ),
        (
            changed("num_trials: 6", "concurrency: many"),
            "space.yaml:4: concurrency: must be auto or an integer above 0, got 'many'.",
        ),
        (
            changed("num_trials: 6", "concurrency: true"),
            "space.yaml:4: concurrency: must be auto or an integer above 0, got True.",
        ),
        (
            changed("num_trials: 6", "sampler: tpp"),
            "space.yaml:4: sampler: unknown sampler 'tpp'. Did you mean 'tpe'? Known: auto, "
            "cma_es, gp, "
            "random, tpe.",
        ),
        (
            changed("num_trials: 6", "pruner: {asha: {reduction_factor: 1}}"),
            "space.yaml:4: pruner/asha/reduction_factor: must be greater than or equal to 2, "
            "got 1.",
        ),
        (
            changed("criterion: entropy", "criterion: entrophy"),
            "space.yaml:3: criterion: unknown criterion 'entrophy'. Did you mean 'entropy'? "
            f"Known: {', '.join(sorted(SELECTORS))}.",
        ),
        (
            changed("task: digits", "task: digit"),
            "space.yaml:2: task: unknown task 'digit'. Did you mean 'digits'? "
            f"Known: {', '.join(sorted(TASKS))}.",
        ),
        (
            changed("task: digits", "task: 3"),
            "space.yaml:2: task: must be the name of a task, or one name with its settings, got "
            "3.",
        ),
        (
            changed("task: digits", "task:\n  digits:\n    num_source: 3"),
            "space.yaml:4: task/digits/num_source: must be greater than or equal to 20, got 3.",
        ),
        (
            changed("task: digits\n", ""),
            "space.yaml: task: is required and missing; for several tasks, give tasks, a list.",
        ),
        (
            changed("task: digits", "task: digits\ntasks: [synsl]"),
            "space.yaml:3: tasks: must not be given together with task; keep one.",
        ),
        (
            changed("task: digits", "tasks: []"),
            "space.yaml:2: tasks: must hold at least one task, got [].",
        ),
        (
            changed("task: digits", "tasks: digits"),
            "space.yaml:2: tasks: must be a valid list, got 'digits'.",
        ),
        (
            changed("task: digits", "tasks:\n- digits\n- 3"),
            "space.yaml:4: tasks/1: must be the name of a task, or one name with its settings, "
            "got 3.",
        ),
        (
            changed("task: digits", "tasks:\n- digits\n- digits: {num_source: 50}"),
            "space.yaml:4: tasks/1: 'digits' is given twice; study it again in another space.",
        ),
        (
            changed("task: digits", "tasks:\n- digits: {num_source: 3}\n- synsl"),
            "space.yaml:3: tasks/0/digits/num_source: must be greater than or equal to 20, got 3.",
        ),
        (
            changed("task: digits", "tasks:\n- digits\n- s2rda"),
            "space.yaml:4: tasks/1: unknown task 's2rda'. Did you mean 's2rda49'? "
            f"Known: {', '.join(sorted(TASKS))}.",
        ),
        (
            changed("task: digits", "tasks: [digits, synsl]").replace("[0.5, 1.0]", "[-0.5, 1.0]"),
            "space.yaml:19: search/method/choice/dann/domain_weight: must be greater than or "
            "equal to "
            "0, got -0.5.",
        ),
        (SPACE[: SPACE.index("search:")], "space.yaml: search: is required and missing."),
        (
            changed("small_cnn", "smal_cnn"),
            "space.yaml:6: fixed/backbone: unknown backbone 'smal_cnn'. Did you mean 'small_cnn'? "
            f"Known: {', '.join(sorted(BACKBONES))}.",
        ),
        (
            changed("      dann:", "      dan:"),
            "space.yaml:15: search/method: unknown method 'dan'. Did you mean 'dann'? "
            f"Known: {', '.join(sorted(METHODS))}.",
        ),
        (
            changed("[1.0e-4, 1.0e-2]", "[1.0e-2, 1.0e-4]"),
            "space.yaml:10: search/optimizer/learning_rate/log_uniform: must be [low, high] "
            "with low < "
            "high, got [0.01, 0.0001].",
        ),
        (
            changed("[1.0e-4, 1.0e-2]", "[1e-4, 1.0e-2]"),
            "space.yaml:10: search/optimizer/learning_rate/log_uniform/0: must be a number, got "
            "'1e-4'. "
            "YAML reads 1e-4 as text: write 1.0e-4.",
        ),
        (
            changed("schedule: {num_epochs: 1}", "optimizer: {weight_decay: 1e-4}"),
            "space.yaml:7: fixed/optimizer/weight_decay: must be a valid number, got '1e-4'. "
            "YAML reads "
            "1e-4 as text: write 1.0e-4, without quotes.",
        ),
        (
            changed("      - 64", "      - sixty"),
            "space.yaml:11: search/batch_size: must be a valid integer, got 'sixty'.",
        ),
        (
            changed("      - 64", "      - 32"),
            "space.yaml:14: search/batch_size/choice/1: is given twice: 32.",
        ),
        (
            changed("[0.5, 1.0]", "[-0.5, 1.0]"),
            "space.yaml:19: search/method/choice/dann/domain_weight: must be greater than or "
            "equal to "
            "0, got -0.5.",
        ),
        (
            changed("schedule: {num_epochs: 1}", "optimizer: {learning_rate: 0.1}"),
            "space.yaml:10: search/optimizer/learning_rate: is both fixed and searched; keep one.",
        ),
        (
            changed("schedule: {num_epochs: 1}", "seed: 3"),
            "space.yaml:7: fixed/seed: must be given as 'seed' at the top level of the space.",
        ),
        (
            changed("schedule: {num_epochs: 1}", "criterion: bnm"),
            "space.yaml:7: fixed/criterion: must be given as 'criterion' at the top level of the "
            "space.",
        ),
        (
            changed("schedule: {num_epochs: 1}", "selection: {criterion: oracle}"),
            "space.yaml:7: fixed/selection/criterion: must be given as 'criterion' at the "
            "top level of the space.",
        ),
        (
            changed("schedule: {num_epochs: 1}", "selection: bnm"),
            "space.yaml:7: fixed/selection: must be a valid dictionary or instance of "
            "SelectionConfig, "
            "got 'bnm'.",
        ),
        (
            changed("search:\n", "search:\n  task: digits\n"),
            "space.yaml:9: search/task: is both fixed and searched; keep one.",
        ),
    ],
)
def test_a_mistake_is_one_line_with_its_place(file: Path, text: str, line: str) -> None:
    assert wrong(file, text) == [line]


def test_several_mistakes_are_a_line_each(file: Path) -> None:
    lines = wrong(file, changed("num_trials: 6", "num_trials: 0").replace("entropy", "x"))
    assert [line.split(": ")[:2] for line in lines] == [
        ["space.yaml:3", "criterion"],
        ["space.yaml:4", "num_trials"],
    ]


def test_an_unknown_space_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ValueError) as caught:
        read_study("digit", [])
    assert str(caught.value) == (
        "no space or file named 'digit'. Did you mean 'digits'? "
        f"Known: {', '.join(sorted(shipped_spaces()))}."
    )


@pytest.mark.parametrize(
    "content, reason", [(None, "Is a directory."), (b"\xff\xfe\x00", "not a text file.")]
)
def test_what_is_no_text(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "space.yaml"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(ValueError) as caught:
        read_study(str(path), [])
    assert str(caught.value) == f"{path}: {reason}"


def test_lines_of_keys_and_items(file: Path) -> None:
    yaml_file = read_yaml(file)
    places: dict[tuple[str | int, ...], int] = {
        ("task",): 2,
        ("search", "batch_size", "choice", 1): 14,
        ("search", "method", "choice", "dann", "domain_weight", "uniform", 0): 19,
    }
    for place, line in places.items():
        assert yaml_file.where(place) == f"{file}:{line}"


def test_a_place_that_is_not_in_the_file_is_near_what_contains_it(file: Path) -> None:
    yaml_file = read_yaml(file)
    assert yaml_file.where(("fixed", "schedule", "decay", "x")) == f"{file}:7"
    assert yaml_file.where(("nothing",)) == str(file)


# Trial files


@pytest.mark.parametrize(
    "text, line",
    [
        ("task: [", "not YAML: while parsing a flow node"),
        ("", "must hold a trial's settings, `task: …` and so on."),
        ("- digits", "must hold a trial's settings, `task: …` and so on."),
        ("seed: 1", "task: is required and missing."),
        ("task: digits\nmethod: dan", "method: unknown method 'dan'. Did you mean 'dann'?"),
        (
            "task: digits\noptimizer: {learning_rate: 1e-4}",
            "optimizer/learning_rate: must be a valid number, got '1e-4'. YAML reads 1e-4 as text",
        ),
    ],
)
def test_what_is_wrong_with_a_trial_file(tmp_path: Path, text: str, line: str) -> None:
    path = tmp_path / "trial.yaml"
    path.write_text(text)
    with pytest.raises(ValueError) as caught:
        read_trial_config(path)
    assert str(caught.value).startswith(f"{path}: {line}") and "\n" not in str(caught.value)


def test_a_missing_trial_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError) as caught:
        read_trial_config(tmp_path / "nowhere.yaml")
    assert str(caught.value) == f"{tmp_path}/nowhere.yaml: No such file or directory."


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": {"learning_rate": 1e-5}},
        {"schedule": {"decay_epochs": [3, 5]}},
        {"task": {"folders": {"source": "a", "target": "b", "classes": ["x", "y"]}}},
        {"initialization": {"pretraining": {"task": "digits"}}},
        {"target_augmentation": "strong"},
        {"schedule": {"num_epochs": None, "num_steps": 3}},
    ],
)
def test_a_trial_survives_yaml(tmp_path: Path, settings: dict[str, Any]) -> None:
    config = validate(TrialConfig, {"task": "digits", **settings})
    path = tmp_path / "trial.yaml"
    path.write_text(config.to_yaml())
    again = read_trial_config(path)
    assert again == config and again.identity() == config.identity()


@pytest.mark.parametrize(
    "text, seconds",
    [("90m", 5400), ("2h", 7200), ("1d12h", 129600), ("1.5h", 5400), ("1h 30m 5s", 5405)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


def test_a_study_config_takes_no_further_keys() -> None:
    with pytest.raises(ConfigError, match="unknown key 'task_name'"):
        validate(StudyConfig, {"task": "digits", "search": {}, "task_name": "x"})


# Former names of settings

FORMER = """
task: digits
num_trials: 2
compare_by: optimizer/backbone_multiplier
fixed: {accumulation: 2}
search:
  optimizer: {backbone_multiplier: {choice: [0.1, 1.0]}}
"""


def test_former_names_in_a_space_are_read_with_a_warning_that_says_where(tmp_path: Path) -> None:
    path = tmp_path / "former.yaml"
    path.write_text(FORMER)
    with pytest.warns(FutureWarning) as warned:
        study, space = read_study(str(path), ["fixed.accumulation=4"])
    assert [str(warning.message) for warning in warned] == [
        f"{path}:5: 'accumulation' is now 'gradient_accumulation_steps'. The former name is read "
        "until 0.3.",
        f"{path}:7: 'backbone_multiplier' is now 'backbone_lr_multiplier'. The former name is "
        "read until 0.3.",
        f"{path}:4: 'backbone_multiplier' is now 'backbone_lr_multiplier'. The former name is "
        "read until 0.3.",
        "--set fixed.accumulation=4: 'accumulation' is now 'gradient_accumulation_steps'. The "
        "former name is read until 0.3.",
    ]
    assert study.compare_by == "optimizer/backbone_lr_multiplier"
    trial = next(space.probe_configs())
    assert trial.gradient_accumulation_steps == 4
    assert trial.optimizer.backbone_lr_multiplier == 0.1


def test_a_value_by_a_former_name_is_complained_about_in_its_line(tmp_path: Path) -> None:
    path = tmp_path / "former.yaml"
    path.write_text(FORMER.replace("accumulation: 2", "accumulation: 0"))
    with (
        pytest.warns(FutureWarning),
        pytest.raises(ValueError, match=rf"^{path}:5: fixed/gradient_accumulation_steps: must be"),
    ):
        read_study(str(path), [])


def test_a_stored_study_s_former_names_are_read_without_a_warning() -> None:
    """It is no file of the user's; pytest turns warnings into errors."""
    study = validate(StudyConfig, yaml.safe_load(FORMER))
    assert study.fixed == {"gradient_accumulation_steps": 2}
    assert study.compare_by == "optimizer/backbone_lr_multiplier"


@pytest.mark.parametrize(
    "override, expected",
    [("search.accumulation.choice=[1,2]", {1, 2}), ("fixed={accumulation: 4}", {4})],
)
def test_an_override_by_a_former_name_is_warned_of_wherever_it_is(
    tmp_path: Path, override: str, expected: set[int]
) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("task: digits\nnum_trials: 2\nsearch: {batch_size: {choice: [8, 16]}}\n")
    with pytest.warns(FutureWarning, match="^--set .*: 'accumulation' is now"):
        _, space = read_study(str(path), [override])
    assert {c.gradient_accumulation_steps for c in space.probe_configs()} == expected


def test_a_task_s_own_key_is_no_former_name(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("task: digits\nsearch: {batch_size: {choice: [8, 16]}}\n")
    with pytest.raises(ValueError, match="unknown key 'accumulation'"):  # and no warning
        read_study(str(path), ["task.digits.accumulation=3"])
