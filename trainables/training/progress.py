"""What a trial accumulates between reports: its progress, its losses and its time."""

import math
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from trainables.runtime.distributed import Runtime
from trainables.training.report import TrialError


@dataclass
class Progress:
    """The state of a trial that is not its method's; a checkpoint holds both."""

    step: int = 0
    """Steps done."""
    evaluation: int = 0
    """Evaluations done."""
    objective: float = -math.inf
    """Objective of the best evaluation so far."""
    best_evaluation: int = 0
    """Number of that evaluation, from 1; 0 before the first."""
    seconds: float = 0.0
    """Wall-clock time, interruptions left out."""
    cpu_seconds: float = 0.0
    """Processor time of all workers."""
    reports: list[dict[str, Any]] = field(default_factory=list)
    """Reports of the training and test phases, as dictionaries."""


class LossMeans:
    """Means of loss terms over steps and workers.

    Sums stay on the device: reading them after every step would wait for the GPU each time.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.sums: dict[str, Tensor] = {}
        self.steps = 0

    def add(self, losses: dict[str, Tensor]) -> None:
        """Add the losses of one step."""
        for name, value in losses.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.steps += 1

    def take(self, step: int) -> dict[str, float]:
        """Return the means since the last call, by ``loss/<name>``, and start over.

        Args:
            step: The number of the last step, from 0, for the message.

        Raises:
            TrialError: One of them is not finite.
        """
        names = sorted(self.sums)
        sums = torch.stack([self.sums[name].double() for name in names])[None]
        means = self.runtime.all_gather(sums).mean(dim=0) / self.steps
        for name, mean in zip(names, means.tolist(), strict=True):
            if not math.isfinite(mean):
                raise TrialError(f"loss '{name}' is {mean} by step {step + 1}.")
        self.sums, self.steps = {}, 0
        return {f"loss/{name}": mean for name, mean in zip(names, means.tolist(), strict=True)}


class Stopwatch:
    """Wall-clock and processor time since the last lap."""

    wall: float
    cpu: float

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Leave out the time since the last lap, which the reader of the reports took."""
        self.wall, self.cpu = time.monotonic(), time.process_time()

    def lap(self, runtime: Runtime) -> tuple[float, float]:
        """Return seconds of this process, and processor seconds of all workers."""
        wall, cpu = time.monotonic(), time.process_time()
        mine = torch.tensor([cpu - self.cpu], device=runtime.device, dtype=torch.float64)
        elapsed = wall - self.wall
        self.wall, self.cpu = wall, cpu
        return elapsed, float(runtime.all_gather(mine).sum())
