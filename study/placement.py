"""What a trial occupies, and how many of them there is room for."""

import torch

from study.config import StudyConfig
from study.environment import available_cpus
from study.space import SearchSpace
from trainables.config import ResourcesConfig


def check_resources(space: SearchSpace) -> ResourcesConfig:
    """What a trial occupies, which must be the same for all and fit the machine."""
    needs = list(dict.fromkeys(config.resources for config in space.probe_configs()))
    if len(needs) > 1:
        raise ValueError("resources: must be the same for all trials of a study.")
    resources = needs[0]
    cpus, gpus = available_cpus(), torch.cuda.device_count()
    if resources.workers * resources.cpus_per_worker > cpus:
        raise ValueError(
            f"resources: a trial needs {resources.workers} workers × "
            f"{resources.cpus_per_worker} CPUs, and this machine has {cpus}.")
    if resources.workers * resources.gpus_per_worker > gpus:
        raise ValueError(
            f"resources: a trial needs {resources.workers} workers × "
            f"{resources.gpus_per_worker:g} GPUs, and this machine has {gpus}.")
    return resources


def concurrency_of(study: StudyConfig, resources: ResourcesConfig) -> int:
    """Trials at a time: as many as fit, or fewer if the study says so."""
    fits = available_cpus() // (resources.workers * resources.cpus_per_worker)
    if resources.gpus_per_worker:
        fits = min(fits, int(torch.cuda.device_count()
                             / (resources.workers * resources.gpus_per_worker)))
    return fits if study.concurrency == "auto" else min(study.concurrency, fits)
