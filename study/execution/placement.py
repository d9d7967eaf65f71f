"""What a trial occupies, what machines there can be, and how many trials they take at a time.

A trial's workers are given their places together or not at all. So trials wait for one another,
and for machines that are still to come, and what finds room once runs some time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import floor, inf

import torch

from study.config.study_config import StudyConfig
from study.execution.environment import available_cpus
from study.spaces.search_space import SearchSpace
from trainables.config import SLOT, ResourcesConfig

MOST = 1000
"""Trials at a time: one process follows them all."""

SHOWN = ("CPU", "GPU", SLOT)
"""The resources that a study's trials may occupy, as Ray names them."""


@dataclass(frozen=True)
class Machines:
    """Machines of one kind."""

    name: str
    """What they are called."""
    resources: Mapping[str, float]
    """Of each, as Ray names them."""
    count: int = 1
    """How many there are, or can be."""

    def places(self, worker: Mapping[str, float]) -> int:
        """How many such workers one of these machines takes."""
        return min(
            _times(name, self.resources.get(name, 0), amount) for name, amount in worker.items()
        )

    def __str__(self) -> str:
        has = [
            f"{self.resources.get(name, 0):g} {name}"
            for name in SHOWN
            if name == "CPU" or 0 < self.resources.get(name, 0) < inf
        ]
        return f"{self.count} × {self.name} ({', '.join(has)})"


@dataclass(frozen=True)
class Cluster:
    """The machines that trials can be placed on."""

    there: tuple[Machines, ...]
    """They stay as they are."""
    to_come: tuple[Machines, ...] = ()
    """They come where trials wait for them; the most of each kind."""
    most_to_come: int | None = None
    """Of all kinds together."""

    def places(self, worker: Mapping[str, float]) -> int:
        """How many such workers find a place at the same time."""
        total = sum(machines.count * machines.places(worker) for machines in self.there)
        left = self.most_to_come
        for machines in sorted(self.to_come, key=lambda each: -each.places(worker)):
            count = machines.count if left is None else min(machines.count, left)
            left = None if left is None else left - count
            total += count * machines.places(worker)
        return total

    def __str__(self) -> str:
        return ", ".join([*map(str, self.there), *(f"up to {each}" for each in self.to_come)])


def _times(name: str, has: float, amount: float) -> int:
    """How many times a machine can give an amount of a resource."""
    if has == inf:
        return MOST
    if name == "GPU" and amount < 1:  # a worker's share is of one GPU
        return floor(has) * floor(1 / amount + 1e-9)
    return floor(has / amount + 1e-9)


def this_machine() -> Cluster:
    """The CPUs that this process may use, and the GPUs that it sees."""
    return Cluster(
        (
            Machines(
                "this machine",
                {"CPU": available_cpus(), "GPU": torch.cuda.device_count(), SLOT: inf},
            ),
        )
    )


def common_resources(space: SearchSpace) -> ResourcesConfig:
    """What a trial occupies, which must be the same for all."""
    needs = list(dict.fromkeys(config.resources for config in space.probe_configs()))
    if len(needs) > 1:
        raise ValueError("resources: must be the same for all trials of a study.")
    return needs[0]


def worker_of(resources: ResourcesConfig) -> dict[str, float]:
    """What each worker of a trial occupies, as Ray names it."""
    worker: dict[str, float] = {"CPU": resources.cpus_per_worker}
    if resources.gpus_per_worker:
        worker["GPU"] = resources.gpus_per_worker
    return worker


def concurrency_of(study: StudyConfig, resources: ResourcesConfig, cluster: Cluster) -> int:
    """Trials at a time: as many as there can be room for, or fewer if the study says so.

    Raises:
        ValueError: There can be no room for a single one.
    """
    places = cluster.places(worker_of(resources))
    needs = f"resources: a trial needs {in_words(resources)}"
    if places < resources.workers:
        room = f"there is room for {places}" if resources.workers > 1 else "no machine has that"
        raise ValueError(
            f"{needs}, and {room}: {cluster}. Lower workers, cpus_per_worker or "
            "gpus_per_worker, or take more or larger machines."
        )
    trials = min(places // resources.workers, MOST)
    if resources.workers > 1:
        trials = min(trials, cluster.places({SLOT: 1}))
    if not trials:
        raise ValueError(
            f"{needs} and 1 {SLOT} for the process that waits for them, which no machine offers: "
            f"{cluster}. Start Ray on the head with --resources='{{\"{SLOT}\": 8}}': at most so "
            "many trials of several workers run at a time."
        )
    return trials if study.concurrency == "auto" else min(study.concurrency, trials)


def in_words(resources: ResourcesConfig) -> str:
    """What a trial occupies."""
    each = " and ".join(f"{amount:g} {name}" for name, amount in worker_of(resources).items())
    return each if resources.workers == 1 else f"{resources.workers} workers of {each} each"
