"""Vision transformers, built by timm."""

from typing import final

import timm
from pydantic import Field, PositiveInt
from typing_extensions import override

from trainables.backbones import _from_timm
from trainables.backbones.base import Architecture, BackboneConfig
from trainables.nn.networks import Backbone


@final
class VisionTransformer(Architecture):
    """ViT (Dosovitskiy et al., ICLR 2021, arXiv:2010.11929); the feature is the class token.

    DeiT (Touvron et al., ICML 2021, arXiv:2012.12877) has the same layers and other published
    weights.

    Args:
        width: Length of a token and of the feature vector.
        depth: Number of blocks.
        num_heads: Number of attention heads in each block.
        image_size: Default side of the images, in pixels.
        patch_size: Default side of the patches, in pixels.
        weights: timm's name of the published ImageNet weights; ``None`` if there are none.
    """

    class Config(BackboneConfig):
        """The paper trains ViT-B with dropout 0.1."""

        image_size: PositiveInt | None = None
        """Side of the images in pixels; null: that of the architecture, see docs/backbones.md.
        Published weights are adapted to another size."""
        patch_size: PositiveInt | None = None
        """Side in pixels of the patches that become tokens; must divide ``image_size``. Null: that
        of the architecture."""
        dropout: float = Field(0.0, ge=0, lt=1)
        """Dropout probability of the embedded patches, and of the outputs of dense layers except
        those of queries, keys and values."""
        stochastic_depth: float = Field(0.0, ge=0, lt=1)
        """Probability of skipping the last block for an image in training; it grows linearly with
        depth, from 0 in the first block."""

    def __init__(
        self,
        width: int,
        depth: int,
        num_heads: int,
        *,
        image_size: int = 224,
        patch_size: int = 16,
        weights: str | None = None,
    ) -> None:
        self.width = width
        self.depth = depth
        self.num_heads = num_heads
        self.image_size = image_size
        self.patch_size = patch_size
        self.weights = weights
        self.imagenet_weights = weights and f"timm {weights}"

    @override
    def build(self, config: BackboneConfig, imagenet: bool) -> Backbone:
        assert isinstance(config, VisionTransformer.Config)
        image_size = config.image_size or self.image_size
        patch_size = config.patch_size or self.patch_size
        _from_timm.check_patches(image_size, patch_size)
        trunk = timm.models.VisionTransformer(
            img_size=image_size,
            patch_size=patch_size,
            embed_dim=self.width,
            depth=self.depth,
            num_heads=self.num_heads,
            pos_drop_rate=config.dropout,
            proj_drop_rate=config.dropout,
            drop_path_rate=config.stochastic_depth,
            num_classes=0,
        )
        if imagenet:
            trunk.load_state_dict(
                _from_timm.published_weights(self.weights, image_size, patch_size)
            )
        return Backbone(trunk, self.width, image_size)
