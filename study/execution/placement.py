"""Resources of trials and machines, and the number of trials that run at a time.

The workers of a trial are placed all together or not at all (a placement group). Trials therefore
never hold part of what they need while others wait for it, and a trial that fits the cluster at
all will eventually run.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import floor, inf

import torch

from study.config.study_config import StudyConfig
from study.execution.provenance import available_cpus
from study.spaces.search_space import SearchSpace
from trainables.trial_config import SLOT, ResourcesConfig

MAX_CONCURRENCY = 1000
"""Maximum number of trials at a time, since a single process handles the reports of all."""

RESOURCES = ("CPU", "GPU", SLOT)
"""Names in Ray of the resources that trials may occupy."""


@dataclass(frozen=True)
class Machines:
    """Machines with the same resources."""

    name: str
    """Name of the kind, for messages."""
    resources: Mapping[str, float]
    """Resources of each machine, by their names in Ray."""
    count: int = 1
    """Number of machines that exist, or maximum number that may be added."""

    def capacity(self, worker: Mapping[str, float]) -> int:
        """Return how many such workers fit one of these machines."""
        return min(
            _num_fitting(name, self.resources.get(name, 0), amount)
            for name, amount in worker.items()
        )

    def __str__(self) -> str:
        has = [
            f"{self.resources.get(name, 0):g} {name}"
            for name in RESOURCES
            if name == "CPU" or 0 < self.resources.get(name, 0) < inf
        ]
        return f"{self.count} × {self.name} ({', '.join(has)})"


@dataclass(frozen=True)
class Cluster:
    """The machines that trials can be placed on."""

    present: tuple[Machines, ...]
    """Machines that exist throughout the study."""
    addable: tuple[Machines, ...] = ()
    """Machines that an autoscaler adds while trials wait; ``count`` is the maximum of a kind."""
    max_added: int | None = None
    """Maximum number of machines that are added, over all kinds; ``None`` for no limit."""

    def capacity(self, worker: Mapping[str, float]) -> int:
        """Return how many such workers fit the cluster at the same time, once it has grown."""
        total = sum(machines.count * machines.capacity(worker) for machines in self.present)
        left = self.max_added
        for machines in sorted(self.addable, key=lambda each: -each.capacity(worker)):
            count = machines.count if left is None else min(machines.count, left)
            left = None if left is None else left - count
            total += count * machines.capacity(worker)
        return total

    def __str__(self) -> str:
        return ", ".join([*map(str, self.present), *(f"up to {each}" for each in self.addable)])


def _num_fitting(name: str, has: float, amount: float) -> int:
    """Return how many times an amount of a resource fits what a machine has."""
    if has == inf:
        return MAX_CONCURRENCY
    if name == "GPU" and amount < 1:  # Ray takes a fraction from a single GPU
        return floor(has) * floor(1 / amount + 1e-9)
    return floor(has / amount + 1e-9)


def this_machine() -> Cluster:
    """Return this machine as a cluster, with the CPUs and GPUs that this process may use."""
    return Cluster(
        (
            Machines(
                "this machine",
                {"CPU": available_cpus(), "GPU": torch.cuda.device_count(), SLOT: inf},
            ),
        )
    )


def common_resources(space: SearchSpace) -> ResourcesConfig:
    """Return the resources of a trial.

    Raises:
        ValueError: They are not the same for all trials of the space.
    """
    needs = list(dict.fromkeys(config.resources for config in space.probe_configs()))
    if len(needs) > 1:
        raise ValueError("resources: must be the same for all trials of a study.")
    return needs[0]


def worker_resources(resources: ResourcesConfig) -> dict[str, float]:
    """Return the resources of one worker, by their names in Ray."""
    worker: dict[str, float] = {"CPU": resources.cpus_per_worker}
    if resources.gpus_per_worker:
        worker["GPU"] = resources.gpus_per_worker
    return worker


def concurrency_of(study: StudyConfig, resources: ResourcesConfig, cluster: Cluster) -> int:
    """Return how many trials run at a time: as many as fit, or fewer if the study says so.

    Raises:
        ValueError: Not a single trial fits, even when the cluster has grown.
    """
    capacity = cluster.capacity(worker_resources(resources))
    needs = f"resources: a trial needs {describe_resources(resources)}"
    if capacity < resources.workers:
        room = (
            f"there is room for only {capacity}"
            if resources.workers > 1
            else "no machine has that"
        )
        raise ValueError(
            f"{needs}, and {room}: {cluster}. Lower workers, cpus_per_worker or "
            "gpus_per_worker, or use more or larger machines."
        )
    trials = min(capacity // resources.workers, MAX_CONCURRENCY)
    if resources.workers > 1:  # each also occupies a slot for the process that starts its workers
        trials = min(trials, cluster.capacity({SLOT: 1}))
    if not trials:
        raise ValueError(
            f"{needs} and 1 {SLOT} for the process that waits for them, which no machine has: "
            f"{cluster}. Start Ray on the head with --resources='{{\"{SLOT}\": 8}}', the maximum "
            "number of multi-worker trials at a time."
        )
    return trials if study.concurrency == "auto" else min(study.concurrency, trials)


def describe_resources(resources: ResourcesConfig) -> str:
    """Describe the resources of a trial, for messages."""
    each = " and ".join(
        f"{amount:g} {name}" for name, amount in worker_resources(resources).items()
    )
    return each if resources.workers == 1 else f"{resources.workers} workers of {each} each"
