"""MLP-Mixers, built by timm."""

from typing import final

from pydantic import Field, PositiveInt
from timm.models.mlp_mixer import MlpMixer
from typing_extensions import override

from trainables.backbones import _from_timm
from trainables.backbones.base import Architecture, BackboneConfig
from trainables.nn.networks import Backbone


@final
class Mixer(Architecture):
    """MLP-Mixer (Tolstikhin et al., NeurIPS 2021, arXiv:2105.01601); the feature is a mean token.

    Args:
        width: Length of a token and of the feature vector.
        depth: Number of blocks.
        image_size: Default side of the images, in pixels.
        patch_size: Default side of the patches, in pixels.
        weights: timm's name of the published ImageNet weights; ``None`` if there are none.
    """

    class Config(BackboneConfig):
        """The defaults are those of the paper."""

        image_size: PositiveInt | None = None
        """Side of the images in pixels; null: that of the architecture, see docs/backbones.md.
        Published weights fit no other size."""
        patch_size: PositiveInt | None = None
        """Side in pixels of the patches that become tokens; must divide ``image_size``. Null: that
        of the architecture."""
        dropout: float = Field(0.0, ge=0, lt=1)
        """Dropout probability after each dense layer."""
        stochastic_depth: float = Field(0.0, ge=0, lt=1)
        """Probability of skipping a block for an image in training."""

    def __init__(
        self,
        width: int,
        depth: int,
        *,
        image_size: int = 224,
        patch_size: int = 16,
        weights: str | None = None,
    ) -> None:
        self.width = width
        self.depth = depth
        self.image_size = image_size
        self.patch_size = patch_size
        self.weights = weights
        self.imagenet_weights = weights and f"timm {weights}"

    @override
    def build(self, config: BackboneConfig, imagenet: bool) -> Backbone:
        assert isinstance(config, Mixer.Config)
        image_size = config.image_size or self.image_size
        patch_size = config.patch_size or self.patch_size
        _from_timm.check_patches(image_size, patch_size)
        trunk = MlpMixer(
            img_size=image_size,
            patch_size=patch_size,
            num_blocks=self.depth,
            embed_dim=self.width,
            num_classes=0,
            proj_drop_rate=config.dropout,
            drop_path_rate=config.stochastic_depth,
        )
        if imagenet:
            trunk.load_state_dict(
                _from_timm.published_weights(self.weights, image_size, patch_size)
            )
        return Backbone(trunk, self.width, image_size)
