"""Weights from files into backbones, by exact names."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from trainables.checkpointing.tensors import load_tensors
from trainables.nn.networks import Backbone

log = logging.getLogger(__name__)

RESNET_CHILDREN = (
    "conv1",
    "bn1",
    "relu",
    "maxpool",
    "layer1",
    "layer2",
    "layer3",
    "layer4",
    "avgpool",
)
"""The children of torchvision's ResNets in order: the release of Tang & Jia keeps a trunk as their
sequence, ``features.4.0.conv1.weight`` for ``layer1.0.conv1.weight``."""

HEADS = frozenset(
    {
        "F1",
        "F2",
        "classifier",
        "domain_fc",
        "fc",
        "fc1",
        "fc2",
        "fc_joint",
        "head",
        "head_dist",
    }
)
"""First parts of names that stand for heads in published files: the release's, torchvision's and
timm's. A name inside a trunk, ``blocks.0.mlp.fc1.weight``, starts otherwise."""


@dataclass(frozen=True)
class LoadReport:
    """What became of the names in a weight file."""

    loaded: tuple[str, ...]
    """Parameters and buffers of the backbone that the file filled."""
    new: tuple[str, ...]
    """Those that keep their initial values."""
    ignored: tuple[str, ...]
    """Names in the file that the backbone does not have, heads for instance."""

    def __str__(self) -> str:
        return (
            f"{len(self.loaded)} tensors loaded, {len(self.new)} new"
            f"{_some(self.new)}, {len(self.ignored)} ignored{_some(self.ignored)}"
        )


def load_backbone(backbone: Backbone, path: Path) -> LoadReport:
    """Fills a backbone from a file and logs what was loaded; a warning if that is not all.

    The file is a checkpoint of this project, a published one of the release of Tang & Jia, or a
    state dictionary as torchvision and timm have them.

    Args:
        backbone: Changed in place.
        path: A file saved with torch; read without running code from it.

    Raises:
        ValueError: The file cannot be read, no name matches, or a tensor has another shape.
    """
    own = backbone.trunk.state_dict()
    available, others = _read(load_tensors(path), own)
    loaded = tuple(name for name in own if name in available)
    new = tuple(name for name in own if name not in available)
    unknown = tuple(name for name in available if name not in own)
    report = LoadReport(loaded, new, (*unknown, *others))
    if not loaded:
        raise ValueError(
            f"{path}: no tensor matches the backbone. The file has"
            f"{_some(report.ignored) or ' no tensors'}, the backbone{_some(new)}."
        )
    for name in loaded:
        if own[name].shape != available[name].shape:
            raise ValueError(
                f"{path}: {name} has shape {tuple(available[name].shape)}, the "
                f"backbone needs {tuple(own[name].shape)}."
            )
    backbone.trunk.load_state_dict({**own, **{name: available[name] for name in loaded}})
    complete = all(map(_is_head, unknown)) and all(map(_is_counter, new))
    log.log(logging.INFO if complete else logging.WARNING, "%s: %s", path, report)
    return report


def _read(
    content: Mapping[str, Any], own: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Tensors by the backbone's names for them, and the names of what is outside the trunk."""
    if isinstance(content.get("networks"), Mapping):  # this project's
        return _split_by_prefix(dict(_tensors(content["networks"])), "backbone.trunk.")
    for key in ("model_state_dict", "state_dict", "model"):
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    tensors = _without_wrapper(dict(_tensors(content)))
    others: tuple[str, ...] = ()
    if any(name.startswith("G.") for name in tensors):  # MCD's generator, beside F1 and F2
        tensors, others = _split_by_prefix(tensors, "G.")
        tensors = _without_wrapper(tensors)
    if {"conv1.weight", "layer4.0.conv1.weight"} <= own.keys():
        tensors = {_resnet_name(name): tensor for name, tensor in tensors.items()}
    return tensors, others


def _tensors(content: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Every tensor in nested mappings, by its path."""
    for name, value in content.items():
        if isinstance(value, Tensor):
            yield name, value
        elif isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", tensor) for inner, tensor in _tensors(value))


def _without_wrapper(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names as they are outside DataParallel."""
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}


def _split_by_prefix(
    tensors: Mapping[str, Tensor], prefix: str
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """What is under ``prefix``, without it, and the names of the rest."""
    inside = {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
    return inside, tuple(name for name in tensors if not name.startswith(prefix))


def _resnet_name(name: str) -> str:
    """The name that torchvision has for ``features.<index>…``; other names as they are."""
    features, _, rest = name.partition(".")
    index, dot, below = rest.partition(".")
    if features != "features" or not index.isdigit() or int(index) >= len(RESNET_CHILDREN):
        return name
    return RESNET_CHILDREN[int(index)] + dot + below


def _is_head(name: str) -> bool:
    return name.split(".")[0] in HEADS


def _is_counter(name: str) -> bool:
    """Whether older files lack it, and nothing is computed from it."""
    return name.endswith(".num_batches_tracked")


def _some(names: tuple[str, ...]) -> str:
    return f" ({', '.join(names[:4])}{', …' if len(names) > 4 else ''})" if names else ""
