"""Small trials in this process, and what their checkpoints hold."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.support.spy_tasks import timeless
from trainables.checkpointing.tensors import load_tensors
from trainables.training.report import Report
from trainables.training.trial import run_trial
from trainables.trial_config import TrialConfig

PRETRAINING: dict[str, Any] = {
    "pretraining": {
        "optimizer": {"algorithm": "adam", "learning_rate": 2e-3},
        "augmentation": {"weak": {"images_per_draw": 8}},
        "schedule": {"num_epochs": None, "num_steps": 6},
    }
}
"""Three evaluations: 180 pictures are two batches of 64."""


def run(config: TrialConfig, folder: Path, cache: Path) -> list[Report]:
    return [timeless(report) for report in run_trial(config, folder, cache)]


def weights(folder: Path, name: str = "latest.pt") -> dict[str, Tensor]:
    """The networks in a checkpoint."""
    state = load_tensors(folder / name)
    networks: dict[str, Tensor] = (state["method"] if "method" in state else state)["networks"]
    return networks


def same(first: Any, second: Any) -> bool:
    """Whether two checkpoints are equal, bit for bit."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, Tensor):
        return torch.equal(first, second)
    if isinstance(first, list):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)
