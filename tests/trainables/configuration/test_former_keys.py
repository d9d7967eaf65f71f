"""Former names of settings are read as the present ones, and digests keep the former spelling."""

import pytest

from trainables.configuration.former_keys import (
    former_path,
    present_path,
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


def test_paths_are_translated_both_ways() -> None:
    assert present_path("optimizer/backbone_multiplier") == "optimizer/backbone_lr_multiplier"
    assert former_path("optimizer/backbone_lr_multiplier") == "optimizer/backbone_multiplier"
    assert present_path("method/dann/domain_weight") == "method/dann/domain_weight"


@pytest.mark.parametrize("former_comes_first", [True, False])
def test_both_names_at_once_are_refused(former_comes_first: bool) -> None:
    keys = ["backbone_multiplier", "backbone_lr_multiplier"]
    order = keys if former_comes_first else keys[::-1]
    with pytest.raises(ConfigError, match="'backbone_multiplier' is its former name. Keep one."):
        with_present_keys({"optimizer": dict.fromkeys(order, 0.1)})
