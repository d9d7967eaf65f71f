"""Loading of weight files into backbones, by exact names."""

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
"""Children of torchvision's ResNets, in order. The release of Tang & Jia stores a trunk as their
sequence: ``features.4.0.conv1.weight`` stands for ``layer1.0.conv1.weight``."""

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
"""First components of the names of heads in files of the release, torchvision and timm. Only the
first counts: in ``blocks.0.mlp.fc1.weight``, ``fc1`` is part of the trunk."""


@dataclass(frozen=True)
class LoadReport:
    """Names of tensors that were loaded, missing or ignored."""

    loaded: tuple[str, ...]
    """Parameters and buffers of the backbone that were loaded from the file."""
    new: tuple[str, ...]
    """Parameters and buffers that keep their initial values."""
    ignored: tuple[str, ...]
    """Tensors of the file that the backbone does not have, for instance heads."""

    def __str__(self) -> str:
        return (
            f"{len(self.loaded)} tensors loaded, {len(self.new)} new"
            f"{_some(self.new)}, {len(self.ignored)} ignored{_some(self.ignored)}"
        )


def load_backbone(backbone: Backbone, path: Path) -> LoadReport:
    """Load a backbone's weights from a file and log the result, as a warning if incomplete.

    The file is a checkpoint of this project, one published with the release of Tang & Jia, or a
    state dictionary of torchvision or timm.

    Args:
        backbone: Backbone to change in place.
        path: File saved with torch; it is read with ``weights_only``.

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
    """Return tensors by the backbone's names, and the file's names of all other tensors."""
    if isinstance(content.get("networks"), Mapping):  # a checkpoint of this project
        return _split_by_prefix(dict(_tensors(content["networks"])), "backbone.trunk.")
    for key in ("model_state_dict", "state_dict", "model"):
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    tensors = _without_wrapper(dict(_tensors(content)))
    others: tuple[str, ...] = ()
    if any(name.startswith("G.") for name in tensors):  # MCD: generator G, classifiers F1, F2
        tensors, others = _split_by_prefix(tensors, "G.")
        tensors = _without_wrapper(tensors)
    if {"conv1.weight", "layer4.0.conv1.weight"} <= own.keys():
        tensors = {_resnet_name(name): tensor for name, tensor in tensors.items()}
    return tensors, others


def _tensors(content: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor of nested mappings with its dotted path."""
    for name, value in content.items():
        if isinstance(value, Tensor):
            yield name, value
        elif isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", tensor) for inner, tensor in _tensors(value))


def _without_wrapper(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove the prefix that DataParallel adds to names."""
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}


def _split_by_prefix(
    tensors: Mapping[str, Tensor], prefix: str
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the tensors under ``prefix``, by names without it, and the names of the others."""
    inside = {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
    return inside, tuple(name for name in tensors if not name.startswith(prefix))


def _resnet_name(name: str) -> str:
    """Return torchvision's name for ``features.<index>…``, and other names unchanged."""
    features, _, rest = name.partition(".")
    index, dot, below = rest.partition(".")
    if features != "features" or not index.isdigit() or int(index) >= len(RESNET_CHILDREN):
        return name
    return RESNET_CHILDREN[int(index)] + dot + below


def _is_head(name: str) -> bool:
    return name.split(".")[0] in HEADS


def _is_counter(name: str) -> bool:
    """Return whether it is BatchNorm's batch counter, which old files lack and nothing needs."""
    return name.endswith(".num_batches_tracked")


def _some(names: tuple[str, ...]) -> str:
    return f" ({', '.join(names[:4])}{', …' if len(names) > 4 else ''})" if names else ""
