"""Search spaces: parsing, drawing, and the places that errors name."""

from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from study.spaces.nodes import merge
from study.spaces.search_space import SearchSpace
from trainables.augmentations import AUGMENTATIONS
from trainables.backbones import BACKBONES
from trainables.configuration.schema import ConfigError
from trainables.methods import MCD, METHODS
from trainables.trial_config import TrialConfig

FIXED: dict[str, Any] = {"task": "digits", "backbone": "small_cnn"}
TREE: dict[str, Any] = {
    "optimizer": {"learning_rate": {"log_uniform": [1e-4, 1e-2]}},
    "batch_size": {"log_integer": [16, 64]},
    "augmentation": {"choice": ["weak", "strong"]},
    "method": {
        "choice": {
            "no_adaptation": {},
            "dann": {"domain_weight": {"uniform": [0.5, 2.0]}, "ramp_sharpness": 5.0},
            "mcd": {"num_generator_steps": {"integer": [1, 4]}},
        }
    },
}


def draw(space: SearchSpace, seed: int, count: int = 1) -> list[tuple[TrialConfig, set[str]]]:
    """Draw configurations, each with the names of its drawn values."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    drawn = []
    for _ in range(count):
        trial = study.ask()
        drawn.append((space.sample(trial), set(trial.params)))
    return drawn


def wrong(search: dict[str, Any], fixed: dict[str, Any] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        SearchSpace.parse(FIXED if fixed is None else fixed, search)
    return str(caught.value).splitlines()


# Parameters


def test_open_values_have_paths_for_names() -> None:
    assert SearchSpace.parse(FIXED, TREE).tree.parameters() == {
        "optimizer/learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
        "batch_size": IntDistribution(16, 64, log=True),
        "augmentation": CategoricalDistribution(["weak", "strong"]),
        "method": CategoricalDistribution(["no_adaptation", "dann", "mcd"]),
        "method/dann/domain_weight": FloatDistribution(0.5, 2.0),
        "method/mcd/num_generator_steps": IntDistribution(1, 4),
    }


def test_a_branch_is_drawn_only_where_its_option_is() -> None:
    common = {"optimizer/learning_rate", "batch_size", "augmentation", "method"}
    own = {
        "no_adaptation": set[str](),
        "dann": {"method/dann/domain_weight"},
        "mcd": {"method/mcd/num_generator_steps"},
    }
    seen = set()
    for config, names in draw(SearchSpace.parse(FIXED, TREE), seed=0, count=12):
        assert names == common | own[config.method.name]
        seen.add(config.method.name)
    assert seen == set(own)


def test_what_is_drawn_is_in_the_configuration() -> None:
    for config, _ in draw(SearchSpace.parse(FIXED, TREE), seed=1, count=12):
        assert 1e-4 <= config.optimizer.learning_rate <= 1e-2
        assert 16 <= config.batch_size <= 64
        assert config.augmentation.name in ("weak", "strong")
        assert config.backbone.name == "small_cnn"
        settings = config.method.config.model_dump()
        if config.method.name == "dann":
            assert 0.5 <= settings["domain_weight"] <= 2.0 and settings["ramp_sharpness"] == 5.0
        if config.method.name == "mcd":
            assert settings["num_generator_steps"] in (1, 2, 3, 4)


def test_a_choice_may_be_of_numbers_and_nothing() -> None:
    space = SearchSpace.parse(
        FIXED,
        {"batch_size": {"choice": [16, 32]}, "optimizer": {"clip_norm": {"choice": [None, 1.0]}}},
    )
    drawn = {
        (config.batch_size, config.optimizer.clip_norm)
        for config, _ in draw(space, seed=0, count=20)
    }
    assert drawn == {(16, None), (16, 1.0), (32, None), (32, 1.0)}


def test_choices_may_stand_in_choices() -> None:
    space = SearchSpace.parse(
        FIXED,
        {
            "initialization": {
                "choice": {
                    "none": None,
                    "pretraining": {
                        "augmentation": {
                            "choice": {
                                "none": {},
                                "strong": {"min_scale": {"uniform": [0.25, 0.75]}},
                            }
                        }
                    },
                }
            }
        },
    )
    assert list(space.tree.parameters()) == [
        "initialization",
        "initialization/pretraining/augmentation",
        "initialization/pretraining/augmentation/strong/min_scale",
    ]


def test_a_setting_called_choice_or_uniform_among_others_is_a_setting() -> None:
    assert wrong({"optimizer": {"uniform": [0.0, 1.0], "learning_rate": 0.1}})[0].startswith(
        "search/optimizer/uniform: unknown key 'uniform'."
    )


def test_nothing_searched_is_one_trial() -> None:
    space = SearchSpace.parse(FIXED, {})
    assert space.tree.parameters() == {}
    assert [config.backbone.name for config in space.probe_configs()] == ["small_cnn"]


# Probes


def test_probes_try_every_option_and_both_ends() -> None:
    probes = list(SearchSpace.parse(FIXED, TREE).probe_configs())
    assert {config.optimizer.learning_rate for config in probes} == {1e-4, 1e-2}
    assert {config.batch_size for config in probes} == {16, 64}
    assert {config.augmentation.name for config in probes} == {"weak", "strong"}
    assert {config.method.name for config in probes} == {"no_adaptation", "dann", "mcd"}
    weights = {getattr(config.method.config, "domain_weight", None) for config in probes}
    steps = {getattr(config.method.config, "num_generator_steps", None) for config in probes}
    assert weights == {None, 0.5, 2.0} and steps == {None, 1, 4}


@pytest.mark.parametrize(
    "search, line",
    [
        (
            {"optimizer": {"momentum": {"uniform": [0.5, 1.0]}}},
            "search/optimizer/momentum: must be less than 1, got 1.0.",
        ),
        (
            {"batch_size": {"uniform": [16, 64]}},
            "search/batch_size: must be a valid integer, got 16.0.",
        ),
        (
            {
                "method": {
                    "choice": {
                        "no_adaptation": {},
                        "dann": {"domain_weight": {"uniform": [-1.0, 1.0]}},
                    }
                }
            },
            "search/method/choice/dann/domain_weight: must be greater than or equal to 0, got "
            "-1.0.",
        ),
        (
            {"augmentation": {"choice": ["weak", "wek"]}},
            "search/augmentation: unknown augmentation 'wek'. Did you mean 'weak'? "
            f"Known: {', '.join(sorted(AUGMENTATIONS))}.",
        ),
        (
            {"method": {"choice": {"no_adaptation": {}, "dan": {}}}},
            "search/method: unknown method 'dan'. Did you mean 'dann'? "
            f"Known: {', '.join(sorted(METHODS))}.",
        ),
        (
            {"method": {"choice": {"mcd": {"hiden_dim": 3}}}},
            "search/method/choice/mcd/hiden_dim: unknown key 'hiden_dim'. Did you mean "
            "'hidden_dim'? "
            f"Known: {', '.join(sorted(MCD.Config.model_fields))}.",
        ),
        (
            {"schedule": {"num_steps": {"integer": [1, 2]}}},
            "search/schedule: give exactly one of num_epochs and num_steps (null for the other).",
        ),
    ],
)
def test_what_no_trial_can_be_is_found_before_any_runs(search: dict[str, Any], line: str) -> None:
    assert line in wrong(search)


# The notation


@pytest.mark.parametrize(
    "value, line",
    [
        (
            {"log_uniform": [1e-2, 1e-4]},
            "log_uniform: must be [low, high] with low < high, got [0.01, 0.0001].",
        ),
        ({"uniform": [1.0, 1.0]}, "uniform: must be [low, high] with low < high, got [1.0, 1.0]."),
        ({"uniform": [1.0]}, "uniform: must be [low, high], got [1.0]."),
        ({"uniform": [1, 2, 3]}, "uniform: must be [low, high], got [1, 2, 3]."),
        ({"uniform": 3}, "uniform: must be [low, high], got 3."),
        ({"uniform": None}, "uniform: must be [low, high], got None."),
        (
            {"log_uniform": ["1e-4", 1.0]},
            "log_uniform/0: must be a number, got '1e-4'. YAML reads 1e-4 as text: write 1.0e-4.",
        ),
        ({"uniform": [0.0, "one"]}, "uniform/1: must be a number, got 'one'."),
        ({"uniform": [False, True]}, "uniform/0: must be a number, got False."),
        ({"integer": [1.5, 3]}, "integer/0: must be an integer, got 1.5."),
        (
            {"log_uniform": [0.0, 1.0]},
            "log_uniform: must be above 0 on a logarithmic scale, got [0.0, 1.0].",
        ),
        (
            {"log_integer": [-1, 3]},
            "log_integer: must be above 0 on a logarithmic scale, got [-1, 3].",
        ),
        ({"uniform": [0.0, float("inf")]}, "uniform: must be finite, got [0.0, inf]."),
        (
            {"uniform": [float("nan"), 1.0]},
            "uniform: must be [low, high] with low < high, got [nan, 1.0].",
        ),
        ({"choice": []}, "choice: must be a list or a mapping with at least one option, got []."),
        ({"choice": {}}, "choice: must be a list or a mapping with at least one option, got {}."),
        (
            {"choice": "a"},
            "choice: must be a list or a mapping with at least one option, got 'a'.",
        ),
        (
            {"choice": [1, [2]]},
            "choice/1: must be a single value, got [2]; options with settings are "
            "a mapping, {choice: {name: {…}}}.",
        ),
        ({"choice": [1, 2, 1]}, "choice/2: is given twice: 1."),
        ({"choice": {"a": 3}}, "choice/a: must be settings such as {}, got 3."),
    ],
)
def test_what_is_wrong_with_an_open_value(value: object, line: str) -> None:
    assert wrong({"optimizer": {"learning_rate": value}}) == [
        f"search/optimizer/learning_rate/{line}"
    ]


def test_what_is_fixed_is_not_searched() -> None:
    fixed = {**FIXED, "optimizer": {"learning_rate": 0.1, "momentum": 0.5}}
    assert wrong(TREE, fixed) == [
        "search/optimizer/learning_rate: is both fixed and searched; keep one."
    ]


def test_fixed_and_searched_settings_of_one_part_go_together() -> None:
    fixed = {**FIXED, "optimizer": {"momentum": 0.5}}
    for config, _ in draw(SearchSpace.parse(fixed, TREE), seed=0, count=3):
        assert config.optimizer.momentum == 0.5 and config.optimizer.learning_rate <= 1e-2


@pytest.mark.parametrize(
    "fixed, line",
    [
        (
            {"backbone": "smal_cnn"},
            "fixed/backbone: unknown backbone 'smal_cnn'. Did you mean "
            f"'small_cnn'? Known: {', '.join(sorted(BACKBONES))}.",
        ),
        (
            {"schedule": {"num_epochs": 0}},
            "fixed/schedule/num_epochs: must be greater than 0, got 0.",
        ),
        (
            {"resources": {"workers": 3}},
            "fixed: batch_size 64 must be a multiple of the 3 workers that share it.",
        ),
    ],
)
def test_what_is_wrong_with_fixed_values(fixed: dict[str, Any], line: str) -> None:
    assert wrong({}, {"task": "digits", **fixed}) == [line]


def test_merging_leaves_both_parts_as_they_were() -> None:
    first, second = {"a": {"b": 1}}, {"a": {"c": 2}, "d": 3}
    assert merge(first, second) == {"a": {"b": 1, "c": 2}, "d": 3}
    assert (first, second) == ({"a": {"b": 1}}, {"a": {"c": 2}, "d": 3})


# Trials as data


def test_equal_configurations_have_equal_ids_however_written() -> None:
    written = [
        TrialConfig.model_validate({"task": "digits", "method": "dann", "seed": 0}),
        TrialConfig.model_validate(
            {"method": {"dann": {"domain_weight": 1.0}}, "task": {"digits": None}}
        ),
        TrialConfig.model_validate(
            {"task": {"digits": {"num_source": 4000}}, "method": {"dann": {}}, "batch_size": 64}
        ),
    ]
    assert written[0] == written[1] == written[2]
    assert len({config.identity() for config in written}) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"method": "mcd"},
        {"task": {"digits": {"num_source": 4001}}},
        {"optimizer": {"learning_rate": 1.0000001e-4}},
        {"selection": {"criterion": "entropy"}},
        {"evaluation": {"test": True}},
    ],
)
def test_different_configurations_have_different_ids(change: dict[str, Any]) -> None:
    one = TrialConfig.model_validate({"task": "digits"})
    other = TrialConfig.model_validate({"task": "digits", **change})
    assert one != other and one.identity() != other.identity()


# Cases


CASES: dict[str, Any] = {
    "task": {
        "digits": {
            "cases": {
                "plain": {},
                "nothing": None,
                "small": {"scale": {"limits": [{"uniform": [0.2, 0.3]}, 0.4]}, "num_source": 50},
            }
        }
    }
}
DIGITS: dict[str, Any] = {"task": {"digits": {"num_test": 20}}, "backbone": "small_cnn"}


def test_a_case_s_settings_stand_in_its_place_and_its_label_does_not() -> None:
    space = SearchSpace.parse(DIGITS, CASES)
    assert list(space.tree.parameters()) == ["task/digits", "task/digits/small/scale/limits/0"]
    plain = TrialConfig.model_validate(DIGITS)
    for label in ("plain", "nothing"):
        assert space.complete({"task/digits": label}) == plain
    small = space.complete({"task/digits": "small", "task/digits/small/scale/limits/0": 0.25})
    assert small == TrialConfig.model_validate(
        {
            **DIGITS,
            "task": {
                "digits": {"num_test": 20, "num_source": 50, "scale": {"limits": [0.25, 0.4]}}
            },
        }
    )


def test_cases_are_drawn_by_label() -> None:
    space = SearchSpace.parse(DIGITS, CASES)
    names = [names for _, names in draw(space, seed=0, count=12)]
    assert {"task/digits"} in names
    assert {"task/digits", "task/digits/small/scale/limits/0"} in names


def test_a_case_may_be_a_value_or_open() -> None:
    space = SearchSpace.parse(
        FIXED,
        {
            "initialization": {
                "cases": {"random": "none", "weights": {"checkpoint": {"path": "a.pt"}}}
            },
            "batch_size": {"cases": {"small": {"choice": [8, 16]}, "large": 64}},
        },
    )
    drawn = {
        (config.initialization.name, config.batch_size)
        for config, _ in draw(space, seed=0, count=40)
    }
    assert drawn == {(name, size) for name in ("none", "checkpoint") for size in (8, 16, 64)}


def test_cases_beside_other_keys_add_to_them() -> None:
    space = SearchSpace.parse(
        FIXED,
        {
            "optimizer": {"momentum": {"uniform": [0.5, 0.9]}},
            "cases": {
                "slow": {"method": "dann"},
                "fast": {"method": "mcd", "optimizer": {"learning_rate": 0.1}},
            },
        },
    )
    config = space.complete({"case": "fast", "optimizer/momentum": 0.5})
    assert (config.method.name, config.optimizer.learning_rate, config.optimizer.momentum) == (
        "mcd",
        0.1,
        0.5,
    )


@pytest.mark.parametrize(
    "search, line",
    [
        (
            {"task": {"digits": {"cases": []}}},
            "search/task/digits/cases: must be a mapping of at least one label to settings, got "
            "[].",
        ),
        (
            {"task": {"digits": {"cases": {}}}},
            "search/task/digits/cases: must be a mapping of at least one label to settings, got "
            "{}.",
        ),
        (
            {"task": {"digits": {"cases": {"a": {}, "b": {"scale": {"fixd": 1.0}}}}}},
            "search/task/digits/cases/b/scale/fixd: unknown key 'fixd'. Did you mean 'fixed'? "
            "Known: fixed, limits, randomize.",
        ),
        (
            {"task": {"digits": {"cases": {"a": {"num_source": 50}, "b": {"num_source": 3}}}}},
            "search/task/digits/cases/b/num_source: must be greater than or equal to 20, got 3.",
        ),
        (
            {"task": {"digits": {"cases": {"a": {"num_source": {"integer": [3, 50]}}}}}},
            "search/task/digits/cases/a/num_source: must be greater than or equal to 20, got 3.",
        ),
        (
            {"task": {"digits": {"cases": {"a": {"scale": {"uniform": [2.0, 1.0]}}}}}},
            "search/task/digits/cases/a/scale/uniform: must be [low, high] with low < high, got "
            "[2.0, 1.0].",
        ),
        (
            {"batch_size": {"cases": {"a": 3, "b": "many"}}},
            "search/batch_size/cases/b: must be a valid integer, got 'many'.",
        ),
        (
            {"task": {"digits": {"num_source": 50, "cases": {"a": {"num_source": 60}}}}},
            "search/task/digits/cases/a/num_source: is also given next to the cases; keep one.",
        ),
        (
            {"cases": {"a": "dann"}, "batch_size": 3},
            "search/cases/a: must be settings such as {}, got 'dann'.",
        ),
        (
            {"task": {"digits": {"cases": {"a": {"num_test": 30}}}}},
            "search/task/digits/cases/a/num_test: is both fixed and searched; keep one.",
        ),
    ],
)
def test_what_is_wrong_with_cases(search: dict[str, Any], line: str) -> None:
    assert wrong(search, DIGITS) == [line]
