"""What a backbone is."""

from abc import ABC, abstractmethod

from trainables.networks import Backbone
from trainables.schema import BaseConfig


class BackboneConfig(BaseConfig):
    """Settings that every backbone has: none."""


class Architecture(ABC):
    """Builds a backbone from its settings; a table lists instances of it."""

    Config: type[BackboneConfig] = BackboneConfig

    @abstractmethod
    def build(self, config: BackboneConfig, imagenet: bool) -> Backbone:
        """Builds the network.

        Args:
            config: The settings.
            imagenet: Load the published ImageNet weights instead of random ones.

        Raises:
            ValueError: There are no such weights, or they cannot be downloaded from here.
        """
