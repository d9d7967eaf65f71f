"""Any network of timm, by its name there."""

from typing import final

from pydantic import Field, PositiveInt
from typing_extensions import override

from trainables.backbones import _from_timm
from trainables.backbones.base import Architecture, BackboneConfig
from trainables.nn.networks import Backbone


@final
class AnyTimm(Architecture):
    """A network of the timm library without its classifier, ``timm: {name: convnext_tiny}``."""

    class Config(BackboneConfig):
        """``timm.list_models()`` lists the names."""

        name: str
        """timm's name of it; a tag chooses among its weights, as in ``convnext_tiny.fb_in1k``."""
        image_size: PositiveInt | None = None
        """Side of the images in pixels, for networks that are built for one size; null: timm's
        default for those, any size for others."""
        stochastic_depth: float = Field(0.0, ge=0, lt=1)
        """Probability of skipping a block in training, timm's ``drop_path_rate``."""

    def __init__(self) -> None:
        self.imagenet_weights = "timm, by the network's name"

    @override
    def build(self, config: BackboneConfig, imagenet: bool) -> Backbone:
        assert isinstance(config, AnyTimm.Config)
        settings: dict[str, int | float] = {}
        if config.image_size is not None:
            settings["img_size"] = config.image_size
        if config.stochastic_depth:
            settings["drop_path_rate"] = config.stochastic_depth
        trunk = _from_timm.create(config.name, imagenet, settings)
        return Backbone(
            trunk,
            _from_timm.feature_dim(trunk),
            config.image_size or _from_timm.only_image_size(trunk),
        )
