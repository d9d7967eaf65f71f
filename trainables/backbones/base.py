"""Base class of architectures, which build backbones."""

from abc import ABC, abstractmethod

from trainables.configuration.schema import BaseConfig
from trainables.nn.networks import Backbone


class BackboneConfig(BaseConfig):
    """Base class of a backbone's settings; it has none of its own."""


class Architecture(ABC):
    """An architecture that builds backbones from settings; the table lists instances."""

    Config: type[BackboneConfig] = BackboneConfig

    imagenet_weights: str | None = None
    """Source of the published ImageNet weights: a library, and its name for them."""

    @abstractmethod
    def build(self, config: BackboneConfig, imagenet: bool) -> Backbone:
        """Build the network.

        Args:
            config: Settings of the backbone.
            imagenet: Load the published ImageNet weights instead of drawing random ones.

        Raises:
            ValueError: The settings fit no network, or the weights cannot be downloaded.
        """


def no_download(name: str, error: Exception) -> ValueError:
    """Return the error for weights that a library could not download."""
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return ValueError(
        f"the ImageNet weights of {name} cannot be downloaded ({reason}). Fetch them where there "
        "is a network and name the file under initialization: {checkpoint: {path: …}}."
    )
