"""Files of tensors, as torch saves them."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from trainables.checkpointing.files import atomic_writer


def save_tensors(path: Path, state: Mapping[str, Any]) -> None:
    """Save nested dictionaries of tensors, numbers and strings, completely or not at all."""
    with atomic_writer(path) as file:
        torch.save(dict(state), file)


def load_tensors(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Load what torch saved, without running code that the file may hold.

    Args:
        path: The file.
        device: Where the tensors go.

    Raises:
        ValueError: The file does not exist, or torch did not save it.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such file.") from error
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise ValueError(f"{path}: not a file of tensors saved with torch ({error}).") from error
    return state
