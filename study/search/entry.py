"""The entry of the tables of samplers and pruners."""

from trainables.configuration.schema import BaseConfig


class Entry:
    """A table entry that is nothing but its settings."""

    def __init__(self, config: type[BaseConfig]) -> None:
        self.Config = config
