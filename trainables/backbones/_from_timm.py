"""Networks and weights from the timm library, with errors that name a remedy."""

from collections.abc import Mapping
from typing import Any

import timm
from torch import Tensor, nn

from trainables.backbones.base import no_download
from trainables.configuration.schema import nearest


def create(name: str, imagenet: bool, settings: Mapping[str, Any]) -> nn.Module:
    """Build a network without its classifier.

    Args:
        name: timm's name, ``vit_tiny_patch16_224``; a tag chooses among published weights.
        imagenet: Load the published weights; position embeddings are interpolated to other sizes.
        settings: Arguments of the network, by timm's names.

    Raises:
        ValueError: timm has no such network, argument or weights, or cannot download them.
    """
    if not timm.is_model(name):
        raise ValueError(
            f"timm knows no network '{name}'.{_nearest(name)} `timm.list_models()` names all."
        )
    try:
        network: nn.Module = timm.create_model(
            name, pretrained=imagenet, num_classes=0, **settings
        )
    except OSError as error:
        raise no_download(name, error) from error
    except TypeError as error:
        raise ValueError(
            f"timm's {name} lacks one of the settings {', '.join(settings)}: {error}."
        ) from error
    except RuntimeError as error:  # no published weights, or of other sizes
        reason = " ".join(str(error).split("\n")[:2]).removesuffix(".")
        raise ValueError(
            f"timm's {name} with {dict(settings)} cannot be built: {reason}."
        ) from error
    return network


def published_weights(name: str | None, image_size: int, patch_size: int) -> dict[str, Tensor]:
    """Return the published ImageNet weights of a network with these sizes, in pixels.

    Raises:
        ValueError: None are published, they do not fit these sizes, or they cannot be downloaded.
    """
    if name is None:
        raise ValueError(
            "no ImageNet weights are published for this backbone; use "
            "initialization: none or pretraining."
        )
    return create(name, True, {"img_size": image_size, "patch_size": patch_size}).state_dict()


def check_patches(image_size: int, patch_size: int) -> None:
    """Raise if patches do not tile the image: timm would cut the rest off.

    Raises:
        ValueError: ``image_size`` is not a multiple of ``patch_size``.
    """
    if image_size % patch_size:
        raise ValueError(
            f"image_size must be a multiple of patch_size, got {image_size} and {patch_size}."
        )


def feature_dim(network: nn.Module) -> int:
    """Return the length of the feature vectors of a network without classifier."""
    return int(network.head_hidden_size)  # type: ignore[arg-type]


def only_image_size(network: nn.Module) -> int | None:
    """Return the side, in pixels, of the only images that a network accepts, if it is fixed."""
    properties = network.pretrained_cfg
    assert isinstance(properties, Mapping)
    return int(properties["input_size"][-1]) if properties.get("fixed_input_size") else None


def _nearest(name: str) -> str:
    """Return a hint at the closest name, without the list of the other thousand."""
    hint, separator, _ = nearest(name, timm.list_models()).partition(" Known:")
    return hint if separator else ""
