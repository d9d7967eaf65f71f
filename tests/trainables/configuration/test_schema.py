"""Strict configuration: what is taken, and what is said of the rest."""

from typing import Annotated

import pytest
from pydantic import PositiveFloat, PositiveInt
from torch import nn

from trainables.augmentations import AUGMENTATIONS, Augmentation, AugmentationConfig, Geometry
from trainables.backbones import BACKBONES, Architecture, Backbone, BackboneConfig
from trainables.configuration.schema import (
    BaseConfig,
    Choice,
    ConfigError,
    OneOf,
    Problem,
    Settings,
    Table,
    default_choice,
    fields_at,
    join,
    nearest,
    validate,
)
from trainables.methods import METHODS
from trainables.tasks import TASKS
from trainables.trial_config import TrialConfig


class Sharp(BaseConfig):
    """An entry with settings."""

    sharpness: PositiveFloat = 1.0
    """How sharp."""


class Plain(BaseConfig):
    """An entry without."""


TABLE = Table("tool", Settings, {"sharp": Settings(Sharp), "plain": Settings(Plain)})


class Inner(BaseConfig):
    """A part."""

    num_epochs: PositiveInt = 3
    """Epochs."""


class Whole(BaseConfig):
    """A configuration with all kinds of parts."""

    tool: Annotated[Choice[BaseConfig], OneOf(TABLE)] = default_choice(TABLE, "plain")
    """What is used."""
    inner: Inner = Inner()
    """A part."""
    optional: Inner | None = None
    """A part, or not."""
    rate: float = 0.5
    """A number."""


class Demanding(BaseConfig):
    """Something that has to be given."""

    name: str
    """A name."""


def problems(value: object, model: type[BaseConfig] = Whole) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        validate(model, value)
    return str(caught.value).splitlines()


# Choices


@pytest.mark.parametrize(
    "written, expected",
    [
        ("sharp", Choice("sharp", Sharp())),
        ({"sharp": None}, Choice("sharp", Sharp())),
        ({"sharp": {}}, Choice("sharp", Sharp())),
        ({"sharp": {"sharpness": 2.0}}, Choice("sharp", Sharp(sharpness=2.0))),
        (Choice("plain", Plain()), Choice("plain", Plain())),
    ],
)
def test_ways_to_write_a_choice(written: object, expected: Choice[BaseConfig]) -> None:
    assert validate(Whole, {"tool": written}).tool == expected


def test_a_choice_is_dumped_as_it_is_written() -> None:
    whole = validate(Whole, {"tool": {"sharp": {"sharpness": 2.0}}})
    assert whole.model_dump(mode="json")["tool"] == {"sharp": {"sharpness": 2.0}}
    assert validate(Whole, whole.model_dump(mode="json")) == whole


def test_an_unknown_choice_names_the_nearest() -> None:
    assert problems({"tool": "shrap"}) == [
        "tool: unknown tool 'shrap'. Did you mean 'sharp'? Known: plain, sharp."
    ]


def test_a_name_like_no_other_has_no_nearest() -> None:
    assert problems({"tool": "zzz"}) == ["tool: unknown tool 'zzz'. Known: plain, sharp."]


def test_problems_of_a_choice_s_settings_are_at_their_full_place() -> None:
    assert problems({"tool": {"sharp": {"sharpness": -1.0}}}) == [
        "tool/sharp/sharpness: must be greater than 0, got -1.0."
    ]
    assert problems({"tool": {"sharp": {"sharpnes": 1.0}}}) == [
        "tool/sharp/sharpnes: unknown key 'sharpnes'. Did you mean 'sharpness'? Known: sharpness."
    ]


@pytest.mark.parametrize(
    "value, shown",
    [
        (3, "3"),
        ([], "[]"),
        ({}, "{}"),
        ({"sharp": {}, "plain": {}}, "{'sharp': {}, 'plain': {}}"),
        (None, "None"),
    ],
)
def test_what_is_no_choice(value: object, shown: str) -> None:
    assert problems({"tool": value}) == [
        f"tool: must be the name of one tool, or one name with its settings, got {shown}. "
        "Known: plain, sharp."
    ]


def test_every_method_of_the_table_can_be_chosen_by_name() -> None:
    for name, method in METHODS.items():
        chosen = validate(TrialConfig, {"task": "digits", "method": name}).method
        assert chosen.name == name and type(chosen.config) is method.Config


# Other values


def test_defaults_are_filled_in() -> None:
    assert validate(Whole, {}).model_dump(mode="json") == {
        "tool": {"plain": {}},
        "inner": {"num_epochs": 3},
        "optional": None,
        "rate": 0.5,
    }


@pytest.mark.parametrize(
    "value, line",
    [
        ({"inner": {"num_epochs": "3"}}, "inner/num_epochs: must be a valid integer, got '3'."),
        ({"inner": {"num_epochs": 3.5}}, "inner/num_epochs: must be a valid integer, got 3.5."),
        ({"inner": {"num_epochs": True}}, "inner/num_epochs: must be a valid integer, got True."),
        ({"rate": float("nan")}, "rate: must be a finite number, got nan."),
        ({"rate": "much"}, "rate: must be a valid number, got 'much'."),
        (
            {"rate": "1e-4"},
            "rate: must be a valid number, got '1e-4'. YAML reads 1e-4 as text: "
            "write 1.0e-4, without quotes.",
        ),
        (
            {"rat": 1.0},
            "rat: unknown key 'rat'. Did you mean 'rate'? Known: inner, optional, rate, tool.",
        ),
        (
            {"optional": {"num_epoch": 1}},
            "optional/num_epoch: unknown key 'num_epoch'. Did you mean "
            "'num_epochs'? Known: num_epochs.",
        ),
        ({1: 2}, "1: keys must be text, got 1."),
        (
            {"rate": list(range(90))},
            f"rate: must be a valid number, got {str(list(range(90)))[:57]}….",
        ),
    ],
)
def test_what_is_wrong_is_one_line(value: object, line: str) -> None:
    assert problems(value) == [line]


def test_a_missing_value_is_named() -> None:
    assert problems({}, Demanding) == ["name: is required and missing."]


def test_all_problems_are_reported_at_once() -> None:
    assert len(problems({"rate": "x", "inner": {"num_epochs": 0}, "tool": "y"})) == 3


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Whole().rate = 1.0  # type: ignore[misc]


def test_a_default_that_breaks_its_own_rule_is_found() -> None:
    class Broken(BaseConfig):
        """A mistake of ours."""

        count: PositiveInt = 0
        """A number."""

    assert problems({}, Broken) == ["count: must be greater than 0, got 0."]


# Looking up


class Sharper(Augmentation):
    """A user's own augmentation."""

    @staticmethod
    def build(config: AugmentationConfig, geometry: Geometry) -> nn.Module:
        """Leaves images alone."""
        return nn.Identity()


def test_a_user_s_own_class_is_found_by_its_dotted_name() -> None:
    name = f"{Sharper.__module__}.Sharper"
    assert AUGMENTATIONS.look_up(name) is Sharper
    chosen = validate(TrialConfig, {"task": "digits", "augmentation": name}).augmentation
    assert chosen.name == name


@pytest.mark.parametrize(
    "name, message",
    [
        ("no.such.module", "method 'no.such.module' cannot be imported: No module named 'no'."),
        (
            "trainables.methods.Nothing",
            "method 'trainables.methods.Nothing' cannot be imported: 'Nothing'.",
        ),
        ("..dann", "method '..dann' cannot be imported: the 'package' argument is required"),
        (
            "trainables.training.trial.run_trial",
            "method 'trainables.training.trial.run_trial' must be a "
            "trainables.methods.base.Method.",
        ),
        (
            "trainables.tasks.Digits",
            "method 'trainables.tasks.Digits' must be a trainables.methods.base.Method.",
        ),
    ],
)
def test_a_dotted_name_of_something_else(name: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        METHODS.look_up(name)
    assert str(caught.value).startswith(message)


class OwnNetwork(Architecture):
    """A user's own backbone."""

    def build(self, config: BackboneConfig, imagenet: bool) -> Backbone:
        """Flattens images of 2 × 2 pixels."""
        return Backbone(nn.Flatten(), 12)


own_network = OwnNetwork()


def test_a_user_s_own_backbone_is_an_instance() -> None:
    assert BACKBONES.look_up(f"{__name__}.own_network") is own_network
    with pytest.raises(ValueError, match="base.Architecture: an instance, not the class.$"):
        BACKBONES.look_up(f"{__name__}.OwnNetwork")


def test_a_backbone_must_be_an_architecture() -> None:
    with pytest.raises(ValueError, match=r"must be a trainables\.backbones\.base\.Architecture\."):
        BACKBONES.look_up("trainables.methods.DANN")


class OwnBackbone(Architecture):
    """A user's own backbone, of no family that the table lists."""

    def build(self, config: BackboneConfig, imagenet: bool) -> Backbone:
        """Needs no building here."""
        raise NotImplementedError


own_backbone = OwnBackbone()


def test_a_user_s_own_backbone_is_an_object_of_any_architecture() -> None:
    assert BACKBONES.look_up(f"{__name__}.own_backbone") is own_backbone
    with pytest.raises(
        ValueError, match=r"must be a trainables\.backbones\.base\.Architecture: an instance"
    ):
        BACKBONES.look_up(f"{__name__}.OwnBackbone")  # a class, which the table does not list


# Words


def test_a_problem_at_the_root() -> None:
    assert join(()) == "top level" and join(("a", 0, "b")) == "a/0/b"


def test_an_error_has_a_line_for_each_problem() -> None:
    error = ConfigError([Problem(("a",), "is wrong."), Problem((), "is odd.")])
    assert str(error) == "a: is wrong.\ntop level: is odd."


def test_the_nearest_name_needs_to_be_near() -> None:
    assert nearest("dan", ["dann", "mcd"]) == " Did you mean 'dann'? Known: dann, mcd."
    assert nearest("xyz", ["dann", "mcd"]) == " Known: dann, mcd."


def test_known_fields_of_parts() -> None:
    assert fields_at(Whole, ()) == ["tool", "inner", "optional", "rate"]
    assert fields_at(Whole, ("inner",)) == fields_at(Whole, ("optional",)) == ["num_epochs"]
    assert fields_at(Whole, ("rate",)) == fields_at(Whole, ("nothing",)) == []


def test_every_setting_says_what_it_is() -> None:
    models = [
        TrialConfig,
        *(
            entry.Config
            for table in (AUGMENTATIONS, BACKBONES, METHODS, TASKS)
            for entry in table.values()
        ),
    ]
    silent = [
        f"{model.__qualname__}.{name}"
        for model in models
        for name, field in model.model_fields.items()
        if not field.description
    ]
    assert silent == []
