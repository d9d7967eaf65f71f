"""Networks and weights of the timm library, with errors that say what to do."""

from collections.abc import Mapping
from typing import Any

import timm
from torch import Tensor, nn

from trainables.backbones.base import no_download
from trainables.configuration.schema import nearest


def create(name: str, imagenet: bool, settings: Mapping[str, Any]) -> nn.Module:
    """Builds a network without its classifier.

    Args:
        name: As timm knows it, ``vit_tiny_patch16_224`` or with a tag for certain weights.
        imagenet: Load the published weights; positions are interpolated where sizes differ.
        settings: Of the network, by timm's names.

    Raises:
        ValueError: timm knows no such network, setting or weights, or cannot fetch them.
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
    except RuntimeError as error:  # no weights are published, or they have other sizes
        reason = " ".join(str(error).split("\n")[:2]).removesuffix(".")
        raise ValueError(
            f"timm's {name} with {dict(settings)} cannot be built: {reason}."
        ) from error
    return network


def published_weights(name: str | None, image_size: int, patch_size: int) -> dict[str, Tensor]:
    """The ImageNet weights for a network of these sizes.

    Raises:
        ValueError: There are none, or not for these sizes, or they cannot be fetched.
    """
    if name is None:
        raise ValueError(
            "no ImageNet weights are published for this backbone; use "
            "initialization: none or pretraining."
        )
    return create(name, True, {"img_size": image_size, "patch_size": patch_size}).state_dict()


def check_patches(image_size: int, patch_size: int) -> None:
    """Refuses patches that do not fill the image: the rest would be cut off.

    Raises:
        ValueError: The one size is no multiple of the other.
    """
    if image_size % patch_size:
        raise ValueError(
            f"image_size must be a multiple of patch_size, got {image_size} and {patch_size}."
        )


def feature_dim(network: nn.Module) -> int:
    """Length of the vectors that a network without classifier gives."""
    return int(network.head_hidden_size)  # type: ignore[arg-type]


def only_image_size(network: nn.Module) -> int | None:
    """The side of the only images that a network takes, if it is bound to one size."""
    properties = network.pretrained_cfg
    assert isinstance(properties, Mapping)
    return int(properties["input_size"][-1]) if properties.get("fixed_input_size") else None


def _nearest(name: str) -> str:
    """The closest name, without the list of the other thousand."""
    hint, separator, _ = nearest(name, timm.list_models()).partition(" Known:")
    return hint if separator else ""
