"""Conditions: the combinations of options that a study compares."""

from typing import Any

import pytest

from study.spaces.conditions import Conditions, file_name
from study.spaces.search_space import SearchSpace
from trainables.configuration.schema import ConfigError

FIXED: dict[str, Any] = {"task": {"digits": {}}, "backbone": "small_cnn"}
SEARCH: dict[str, Any] = {
    "optimizer": {"learning_rate": {"uniform": [0.1, 0.2]}, "clip_norm": {"choice": [None, 1.0]}},
    "task": {"digits": {"cases": {"plain": {}, "few": {"num_source": 50}}}},
    "initialization": {
        "choice": {"none": {}, "pretraining": {"augmentation": {"choice": ["weak", "strong"]}}}
    },
    "method": {"choice": {"no_adaptation": {}, "dann": {}}},
}


def of(compare_by: str | list[str], search: dict[str, Any] = SEARCH) -> Conditions:
    return Conditions.parse(compare_by, SearchSpace.parse(FIXED, search))


def names(compare_by: str | list[str], search: dict[str, Any] = SEARCH) -> list[str]:
    conditions = of(compare_by, search)
    return [conditions.name(combination) for combination in conditions.combinations]


@pytest.mark.parametrize(
    "compare_by, expected",
    [
        ("method", ["no_adaptation", "dann"]),
        ("task/digits", ["plain", "few"]),
        ("optimizer/clip_norm", ["clip_norm null", "clip_norm 1.0"]),
        (
            ["task/digits", "method"],
            ["plain · no_adaptation", "plain · dann", "few · no_adaptation", "few · dann"],
        ),
        (
            ["method", "task/digits"],
            ["no_adaptation · plain", "dann · plain", "no_adaptation · few", "dann · few"],
        ),
        (
            ["initialization", "initialization/pretraining/augmentation"],
            ["none", "pretraining · weak", "pretraining · strong"],
        ),
        ("backbone", ["all"]),
        ([], ["all"]),
    ],
)
def test_each_combination_that_occurs_is_a_condition(
    compare_by: str | list[str],
    expected: list[str],
) -> None:
    assert names(compare_by) == expected


@pytest.mark.parametrize("compare_by", ["method", [], "augmentation"])
def test_where_the_method_is_fixed_and_nothing_else_compared_it_is_the_condition(
    compare_by: str | list[str],
) -> None:
    search = {**SEARCH, "method": "dann"}
    assert names(compare_by, search) == ["dann"]


def test_trials_of_one_condition_share_its_key() -> None:
    conditions = of("method")
    first = {"method": "dann", "optimizer/learning_rate": 0.1}
    second = {"method": "dann", "optimizer/learning_rate": 0.2}
    assert (
        conditions.key(first)
        == conditions.key(second)
        != conditions.key({**first, "method": "no_adaptation"})
    )


@pytest.mark.parametrize(
    "compare_by, line",
    [
        (
            "metod",
            "must name choices or cases that are searched, got 'metod'. Did you mean 'method'? "
            "Known: initialization, initialization/pretraining/augmentation, method, "
            "optimizer/clip_norm, task/digits.",
        ),
        (
            "optimizer/learning_rate",
            "must name choices or cases that are searched, got "
            "'optimizer/learning_rate'. Did you mean 'optimizer/clip_norm'? "
            "Known: initialization, initialization/pretraining/augmentation, "
            "method, optimizer/clip_norm, task/digits.",
        ),
    ],
)
def test_what_is_no_choice(compare_by: str, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        of(compare_by)
    assert str(caught.value) == f"compare_by: {line}"


def test_two_conditions_of_one_name() -> None:
    search = {"task": {"digits": {"cases": {"a b": {}, "a · b": {"num_source": 50}}}}}
    with pytest.raises(ConfigError, match="a different name, and there are two 'a-b'"):
        of("task/digits", search)


def test_a_condition_s_name_in_files() -> None:
    assert file_name("imagenet · dann") == "imagenet-dann"
    assert file_name("mypackage.mymethod.Mine") == "mypackage.mymethod.Mine"
