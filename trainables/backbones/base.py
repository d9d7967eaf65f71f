"""What a backbone is."""

from abc import ABC, abstractmethod

from trainables.configuration.schema import BaseConfig
from trainables.nn.networks import Backbone


class BackboneConfig(BaseConfig):
    """Settings that every backbone has: none."""


class Architecture(ABC):
    """Builds a backbone from its settings; a table lists instances of it."""

    Config: type[BackboneConfig] = BackboneConfig

    imagenet_weights: str | None = None
    """Where the published ImageNet weights come from: a library and its name for them."""

    @abstractmethod
    def build(self, config: BackboneConfig, imagenet: bool) -> Backbone:
        """Builds the network.

        Args:
            config: The settings.
            imagenet: Load the published ImageNet weights instead of random ones.

        Raises:
            ValueError: There are no such weights, or they cannot be downloaded from here.
        """


def no_download(name: str, error: Exception) -> ValueError:
    """The error of weights that a library could not fetch."""
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return ValueError(
        f"the ImageNet weights of {name} cannot be downloaded ({reason}). Fetch them where there "
        "is a network and name the file under initialization: {checkpoint: {path: …}}."
    )
