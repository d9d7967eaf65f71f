"""What entries must keep to whatever their table."""

import pickle
from collections.abc import Mapping
from typing import TypeVar

from trainables.configuration.schema import BaseConfig, Configured, validate

T = TypeVar("T")


def check_config(
    entry: Configured, base: type[BaseConfig], settings: Mapping[str, object]
) -> None:
    """Assert that an entry's settings are strict, documented and stored without loss.

    Args:
        entry: The class or, of a backbone, the instance under test.
        base: The class that the table's settings derive from.
        settings: Settings as YAML would give them.
    """
    config_class = entry.Config
    name = config_class.__qualname__
    assert issubclass(config_class, base), (
        f"{name} must derive from {base.__name__}, so that unknown keys are errors."
    )
    silent = [key for key, field in config_class.model_fields.items() if not field.description]
    assert not silent, f"{name} must have a docstring below each setting, but lacks {silent}."
    config = validate(config_class, settings)
    stored = config.model_dump(mode="json")
    assert validate(config_class, stored) == config, (
        f"{name} must read what it stores in records, but does not: {stored}."
    )
    config_class.model_json_schema()


def sent_to_another_process(value: T, what: str) -> T:
    """Return a copy as a loader process would receive it.

    Args:
        value: The object to send.
        what: What it is, for the message.

    Raises:
        AssertionError: It cannot be pickled.
    """
    try:
        copy: T = pickle.loads(pickle.dumps(value))
    except (AttributeError, TypeError, pickle.PicklingError) as error:
        raise AssertionError(
            f"{what} cannot be pickled, which loader_workers need: {error}. Use classes and "
            "functions of a module, and open files when they are read."
        ) from error
    return copy
