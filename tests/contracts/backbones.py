"""What every backbone must keep to."""

import io
from collections.abc import Mapping
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from tests.contracts.common import check_config
from trainables.backbones import Architecture, Backbone, BackboneConfig
from trainables.configuration.schema import validate
from trainables.runtime.randomness import generator, seed_everything


class BackboneContract:
    """Tests that every :class:`~trainables.backbones.Architecture` must pass.

    They build the network with random weights; choose settings that make it small.
    """

    architecture: ClassVar[Architecture]
    """The architecture under test: an instance, as in the table."""
    settings: ClassVar[Mapping[str, object]] = {}
    """Its settings, as YAML would give them."""
    image_size: ClassVar[int] = 32
    """Side in pixels of the images that it is tested on."""

    def test_settings_are_strict_documented_and_stored_without_loss(self) -> None:
        check_config(self.architecture, BackboneConfig, self.settings)

    @pytest.mark.parametrize("num_images", [1, 3])
    def test_each_image_has_one_feature_vector(self, num_images: int) -> None:
        backbone = self._build().eval()
        images = self._images(num_images)
        features = backbone(images)
        expected = (num_images, backbone.feature_dim)
        assert features.shape == expected, (
            f"Features must have shape (B, feature_dim) = {expected}, got {tuple(features.shape)}."
        )
        assert features.dtype == torch.float32 and features.isfinite().all(), (
            f"Features must be finite float32 numbers, got {features.dtype}."
        )
        assert torch.equal(images, self._images(num_images)), (
            "A backbone must not change its images in place."
        )

    def test_in_evaluation_features_are_repeatable_and_of_each_image_alone(self) -> None:
        backbone, images = self._build().eval(), self._images(3)
        features = backbone(images)
        assert torch.equal(backbone(images), features), (
            "In evaluation mode, features must not be drawn at random."
        )
        alone = torch.cat([backbone(image[None]) for image in images])
        assert torch.allclose(alone, features, atol=1e-4), (
            "In evaluation mode, features must not depend on the rest of the batch."
        )

    def test_images_of_another_size_are_taken_or_refused(self) -> None:
        backbone = self._build().eval()
        images = torch.zeros(2, 3, 2 * self.image_size, 2 * self.image_size)
        if backbone.image_size is None:
            assert backbone(images).shape == (2, backbone.feature_dim), (
                "A backbone without image_size must take images of any size, and pool them."
            )
        else:
            assert backbone.image_size == self.image_size, (
                f"The contract's image_size must be the network's, {backbone.image_size}."
            )
            with pytest.raises(ValueError, match="built for images of"):
                backbone(images)

    def test_initial_weights_come_from_torchs_generator(self) -> None:
        first, second = self._build().state_dict(), self._build().state_dict()
        differing = [name for name in first if not torch.equal(first[name], second[name])]
        assert not differing, f"Equal seeds must give equal weights, but {differing} differ."
        other = self._build(seed=1).state_dict()
        assert any(not torch.equal(first[name], other[name]) for name in first), (
            "Another seed must give other weights."
        )

    def test_the_state_holds_everything(self) -> None:
        backbone = self._build().train()
        backbone(self._images(4))  # moves running averages
        file = io.BytesIO()
        torch.save(backbone.state_dict(), file)
        file.seek(0)
        restored = self._build(seed=1)
        restored.load_state_dict(torch.load(file, weights_only=True))
        images = self._images(2)
        assert torch.equal(restored.eval()(images), backbone.eval()(images)), (
            "A backbone restored from its state must give the same features: register what it "
            "keeps as buffers or parameters."
        )

    def test_gradients_reach_every_parameter(self) -> None:
        backbone = self._build().train()
        features = backbone(self._images(4))
        weights = torch.randn(features.shape, generator=generator(0, "weights"))
        (features * weights).sum().backward()
        missing = [
            name
            for name, parameter in backbone.named_parameters()
            if parameter.requires_grad and parameter.grad is None
        ]
        assert not missing, (
            f"Every parameter must contribute to the features, but {missing} does not. Leave "
            "out the classifier's layers."
        )

    def test_without_published_weights_there_are_none_to_load(self) -> None:
        if self.architecture.imagenet_weights is None:
            message = "An architecture without imagenet_weights must raise ValueError for them."
            try:
                self._build(imagenet=True)
            except ValueError:
                return
            raise AssertionError(message)

    def _build(self, seed: int = 0, imagenet: bool = False) -> Backbone:
        seed_everything(seed, "backbone")
        architecture = self.architecture
        return architecture.build(validate(architecture.Config, self.settings), imagenet)

    def _images(self, count: int) -> Tensor:
        shape = (count, 3, self.image_size, self.image_size)
        return torch.randn(shape, generator=generator(0, "images"))
