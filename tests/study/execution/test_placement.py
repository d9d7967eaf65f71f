"""How many trials at a time, on which machines, or why none."""

from itertools import product
from math import floor

import pytest

from study.config.reading import read_study
from study.config.study_config import StudyConfig
from study.execution.placement import (
    MAX_CONCURRENCY,
    Cluster,
    Machines,
    concurrency_of,
    this_machine,
)
from tests.support.studies import TINY
from trainables.trial_config import SLOT, ResourcesConfig


@pytest.fixture(scope="module")
def study() -> StudyConfig:
    return read_study(str(TINY), ["concurrency=auto"])[0]


def machines(cpus: float, gpus: float = 0, count: int = 1) -> Machines:
    return Machines("node", {"CPU": cpus, "GPU": gpus, SLOT: 100}, count)


def most_by_trying(nodes: list[tuple[int, int]], workers: int, cpus: int, gpus: int) -> int:
    """Trials whose workers can all be placed at once: every way to fill each node, all counts."""
    each = [
        [n for n in range(cpu + 1) if n * cpus <= cpu and n * gpus <= gpu] for cpu, gpu in nodes
    ]
    return max(sum(chosen) // workers for chosen in product(*each))


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("cpus", [1, 2, 3])
@pytest.mark.parametrize("gpus", [0, 1])
def test_as_many_trials_as_have_room(
    study: StudyConfig, workers: int, cpus: int, gpus: int
) -> None:
    resources = ResourcesConfig(workers=workers, cpus_per_worker=cpus, gpus_per_worker=gpus)
    for nodes in product(product((0, 2, 5), (0, 1, 3)), repeat=2):
        cluster = Cluster(tuple(machines(*node) for node in nodes))
        most = most_by_trying(list(nodes), workers, cpus, gpus)
        if most:
            assert concurrency_of(study, resources, cluster) == most
        else:
            with pytest.raises(ValueError, match="^resources: a trial needs"):
                concurrency_of(study, resources, cluster)


@pytest.mark.parametrize("limit", [None, 0, 1, 2, 3, 4, 9])
def test_machines_to_come_count_as_far_as_they_may_come(limit: int | None) -> None:
    kinds = (machines(2, count=2), machines(8, 4, count=2), machines(0, count=5))
    cluster = Cluster((machines(1),), kinds, limit)
    for worker in ({"CPU": 1}, {"CPU": 2}, {"CPU": 1, "GPU": 1}):
        most = max(
            sum(n * kind.capacity(worker) for n, kind in zip(counts, kinds, strict=True))
            for counts in product(*(range(kind.count + 1) for kind in kinds))
            if limit is None or sum(counts) <= limit
        )
        assert cluster.capacity(worker) == machines(1).capacity(worker) + most


@pytest.mark.parametrize("share, trials", [(0.5, 4), (0.25, 8), (0.4, 4), (0.1, 20), (1, 2)])
def test_a_share_of_a_gpu_is_of_one(study: StudyConfig, share: float, trials: int) -> None:
    resources = ResourcesConfig(gpus_per_worker=share)
    assert trials == 2 * floor(1 / share + 1e-9)
    assert concurrency_of(study, resources, Cluster((machines(64, 2),))) == trials


def test_the_study_may_ask_for_fewer(study: StudyConfig) -> None:
    cluster = Cluster((machines(4),))
    for asked, trials in ((1, 1), (3, 3), (4, 4), (100, 4)):
        settings = study.model_copy(update={"concurrency": asked})
        assert concurrency_of(settings, ResourcesConfig(), cluster) == trials


def test_one_process_follows_so_many(study: StudyConfig) -> None:
    endless = Cluster((), (machines(4, count=2**31 - 1),))
    assert concurrency_of(study, ResourcesConfig(), endless) == MAX_CONCURRENCY


def test_trials_of_several_workers_need_slots(study: StudyConfig) -> None:
    two = ResourcesConfig(workers=2)
    nodes = Machines("node", {"CPU": 8.0}, 2)
    assert concurrency_of(study, two, Cluster((Machines("head", {SLOT: 3}), nodes))) == 3
    assert concurrency_of(study, two, Cluster((Machines("head", {SLOT: 30}), nodes))) == 8
    assert concurrency_of(study, ResourcesConfig(), Cluster((nodes,))) == 16
    with pytest.raises(ValueError) as caught:
        concurrency_of(study, two, Cluster((Machines("head", {}), nodes)))
    assert str(caught.value) == (
        "resources: a trial needs 2 workers of 1 CPU each and 1 trial_slot for the process that "
        "waits for them, which no machine has: 1 × head (0 CPU), 2 × node (8 CPU). Start Ray "
        "on the head with --resources='{\"trial_slot\": 8}', the maximum number of multi-worker "
        "trials at a time."
    )


def test_this_machine_limits_no_slots(study: StudyConfig) -> None:
    two = ResourcesConfig(workers=2)
    if this_machine().capacity({"CPU": 1}) >= 2:
        assert (
            concurrency_of(study, two, this_machine()) == this_machine().capacity({"CPU": 1}) // 2
        )
    assert SLOT not in str(this_machine())
