"""Weights from files into backbones, by exact names."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from trainables.checkpoint import load_tensors
from trainables.networks import Backbone


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
        return (f"{len(self.loaded)} tensors loaded, {len(self.new)} new"
                f"{_some(self.new)}, {len(self.ignored)} ignored{_some(self.ignored)}")


def _some(names: tuple[str, ...]) -> str:
    return f" ({', '.join(names[:4])}{', …' if len(names) > 4 else ''})" if names else ""


def load_backbone(backbone: Backbone, path: Path) -> LoadReport:
    """Fills a backbone from a checkpoint of this project or a state dictionary.

    Args:
        backbone: Changed in place.
        path: A file saved with torch; read without running code from it.

    Raises:
        ValueError: The file cannot be read, no name matches, or a tensor has another shape.
    """
    available = _trunk_names(load_tensors(path))
    own = backbone.trunk.state_dict()
    loaded = [name for name in own if name in available]
    if not loaded:
        raise ValueError(
            f"{path}: no tensor matches the backbone. The file has "
            f"{_some(tuple(available)) or 'no tensors'}, the backbone{_some(tuple(own))}.")
    for name in loaded:
        if own[name].shape != available[name].shape:
            raise ValueError(f"{path}: {name} has shape {tuple(available[name].shape)}, the "
                             f"backbone needs {tuple(own[name].shape)}.")
    backbone.trunk.load_state_dict({**own, **{name: available[name] for name in loaded}})
    return LoadReport(
        tuple(loaded), tuple(name for name in own if name not in available),
        tuple(name for name in available if name not in own))


def _trunk_names(content: Mapping[str, object]) -> dict[str, Tensor]:
    for key in ("networks", "model_state_dict", "state_dict"):
        inner = content.get(key)
        if isinstance(inner, Mapping):
            content = inner
    names = {}
    for name, value in content.items():
        if isinstance(value, Tensor):
            names[name.removeprefix("module.").removeprefix("backbone.trunk.")] = value
    return names
