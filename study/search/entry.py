"""What samplers and pruners have in common."""

from trainables.configuration.schema import BaseConfig


class Entry:
    """A named part of a search, by its settings."""

    def __init__(self, config: type[BaseConfig]) -> None:
        self.Config = config
