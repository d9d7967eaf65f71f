"""A plugin's method by its former attribute, and the name of the baseline."""

import warnings

import pytest

from trainables.methods import METHODS, NO_ADAPTATION, Method, Supervised


def test_former_attribute_sets_the_present_one_and_warns() -> None:
    with pytest.deprecated_call(
        match=r"test_base\..*\.Plugin: losses_add_up is now supports_accumulation; .* 0\.3\."
    ) as caught:

        class Plugin(Method):
            losses_add_up = True

    assert Plugin.supports_accumulation and not Method.supports_accumulation
    assert [warning.filename for warning in caught] == [__file__]


def test_former_attribute_is_inherited_without_a_second_warning() -> None:
    with pytest.deprecated_call():

        class Plugin(Method):
            losses_add_up = True

    class Child(Plugin):
        pass

    assert Child.supports_accumulation


def test_present_attribute_decides_where_a_plugin_sets_both() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        class Plugin(Method):
            losses_add_up = True
            supports_accumulation = False

    assert not Plugin.supports_accumulation


def test_no_adaptation_is_supervised_training() -> None:
    assert METHODS[NO_ADAPTATION] is METHODS["supervised"] is Supervised
