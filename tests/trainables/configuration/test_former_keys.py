"""Former names of settings are read as the present ones, and digests keep the former spelling."""

import pytest

from trainables.configuration.former_keys import (
    former_path,
    former_places,
    present_path,
    present_place,
    with_former_keys,
    with_present_keys,
)
from trainables.configuration.schema import ConfigError

FORMER = {
    "accumulation": 2,
    "optimizer": {"backbone_multiplier": 0.1, "weight_decay": 0.0},
    "initialization": {"pretraining": {"optimizer": {"backbone_multiplier": 0.5}}},
    "limits": [{"accumulation": 1}],
}
PRESENT = {
    "gradient_accumulation_steps": 2,
    "optimizer": {"backbone_lr_multiplier": 0.1, "weight_decay": 0.0},
    "initialization": {"pretraining": {"optimizer": {"backbone_lr_multiplier": 0.5}}},
    "limits": [{"gradient_accumulation_steps": 1}],
}


def test_former_names_become_present_ones_at_every_depth_and_back() -> None:
    assert with_present_keys(FORMER) == PRESENT
    assert with_present_keys(PRESENT) == PRESENT
    assert with_former_keys(PRESENT) == FORMER


def test_settings_of_tasks_and_of_users_own_classes_are_left_alone() -> None:
    tree = {"task": {"mine": {"accumulation": 1}}, "method": {"my.Method": {"accumulation": 3}}}
    assert with_present_keys(tree) == tree
    assert present_path("method/my.Method/accumulation") == "method/my.Method/accumulation"
    assert present_path("task/folders/accumulation") == "task/folders/accumulation"


def test_labels_of_cases_and_options_of_choices_are_no_settings() -> None:
    tree = {"cases": {"plain": {}, "accumulation": {"accumulation": 2}}}
    assert with_present_keys(tree) == {
        "cases": {"plain": {}, "accumulation": {"gradient_accumulation_steps": 2}}
    }
    assert list(former_places(tree)) == [("cases", "accumulation", "accumulation")]
    place = ("search", "x", "choice", "accumulation", "accumulation")
    assert present_place(place) == (*place[:4], "gradient_accumulation_steps")
    assert present_path("x/accumulation/learning_rate") == "x/accumulation/learning_rate"


def test_a_label_with_a_dot_is_no_class_of_the_user_s() -> None:
    assert with_present_keys({"cases": {"x0.1": {"accumulation": 2}, "0.5": {}}}) == {
        "cases": {"x0.1": {"gradient_accumulation_steps": 2}, "0.5": {}}
    }
    assert present_path("0.5/accumulation") == "0.5/gradient_accumulation_steps"


def test_paths_are_translated_both_ways() -> None:
    assert present_path("optimizer/backbone_multiplier") == "optimizer/backbone_lr_multiplier"
    assert former_path("optimizer/backbone_lr_multiplier") == "optimizer/backbone_multiplier"
    assert present_path("method/dann/domain_weight") == "method/dann/domain_weight"


@pytest.mark.parametrize("former_comes_first", [True, False])
def test_both_names_at_once_are_refused(former_comes_first: bool) -> None:
    keys = ["backbone_multiplier", "backbone_lr_multiplier"]
    order = keys if former_comes_first else keys[::-1]
    with pytest.raises(ConfigError, match="is the former name of 'backbone_lr_multiplier', which"):
        with_present_keys({"optimizer": dict.fromkeys(order, 0.1)})
