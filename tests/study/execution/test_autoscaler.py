"""What clusters may become."""

from typing import Any

import pytest
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import (
    _derive_autoscaling_config_from_ray_cr,
)
from ray.autoscaler._private.util import prepare_config

from study.config.reading import read_study
from study.config.study_config import StudyConfig
from study.execution.autoscaler import joined_cluster, num_awaited
from study.execution.placement import concurrency_of
from tests.cluster.files import ROOT
from tests.support.studies import TINY
from trainables.trial_config import SLOT, ResourcesConfig

HEAD = {"CPU": 0.0, "head": 1.0, SLOT: 8.0, "node:__internal_head__": 1.0, "memory": 1e10}


@pytest.fixture(scope="module")
def study() -> StudyConfig:
    return read_study(str(TINY), ["concurrency=auto"])[0]


def aws() -> dict[str, Any]:
    """As it is on the head, where `ray up` has filled in what machines have."""
    config = prepare_config(yaml.safe_load((ROOT / "cluster/cluster.yaml").read_text()))
    config["available_node_types"]["worker"]["resources"] = {
        "CPU": 4,
        "GPU": 1,
        "memory": 10**10,
        "accelerator_type:A10G": 1,
    }
    return dict(config)


def test_spot_workers_that_have_not_come(study: StudyConfig) -> None:
    cluster = joined_cluster(HEAD, [], aws())
    assert str(cluster) == "1 × head (0 CPU, 8 trial_slot), up to 4 × worker (4 CPU, 1 GPU)"
    one, four = ResourcesConfig(gpus_per_worker=1), ResourcesConfig(workers=4, gpus_per_worker=1)
    assert concurrency_of(study, one, cluster) == 4
    assert concurrency_of(study, four, cluster) == 1
    five = ResourcesConfig(workers=5, gpus_per_worker=1)
    with pytest.raises(ValueError) as caught:
        concurrency_of(study, five, cluster)
    assert str(caught.value) == (
        "resources: a trial needs 5 workers of 1 CPU and 1 GPU each, and there is room for "
        f"only 4: {cluster}. Lower workers, cpus_per_worker or gpus_per_worker, or use more or "
        "larger machines."
    )
    with pytest.raises(ValueError, match="needs 5 CPU, and no machine has that: 1 × head"):
        concurrency_of(study, ResourcesConfig(cpus_per_worker=5), cluster)


def test_workers_that_have_come_are_among_them() -> None:
    here = [{"CPU": 4.0, "GPU": 1.0}] * 3
    assert joined_cluster(HEAD, here, aws()) == joined_cluster(HEAD, [], aws())


def test_the_cluster_s_own_limit_goes_before_that_of_a_type() -> None:
    config = {**aws(), "max_workers": 2}
    assert joined_cluster(HEAD, [], config).capacity({"CPU": 1}) == 8


def test_machines_by_ssh_count_when_they_have_come() -> None:
    given = yaml.safe_load((ROOT / "cluster/onprem.yaml").read_text())
    given["provider"] = {
        "type": "local",
        "head_ip": "10.0.0.1",
        "worker_ips": ["10.0.0.2", "10.0.0.3"],
    }
    config = prepare_config(given)
    assert num_awaited(config) == 2 and num_awaited(aws()) == 0
    head = {**HEAD, "CPU": 16.0, "GPU": 2.0}
    cluster = joined_cluster(head, [{"CPU": 16.0, "GPU": 2.0}, {"CPU": 64.0}], config)
    assert str(cluster) == (
        "1 × head (16 CPU, 2 GPU, 8 trial_slot), 1 × node (16 CPU, 2 GPU), 1 × node (64 CPU)"
    )


def test_a_cluster_without_an_autoscaler_is_what_is_there() -> None:
    cluster = joined_cluster({"CPU": 32.0, SLOT: 8.0}, [{"CPU": 32.0, "GPU": 4.0, SLOT: 8.0}] * 3)
    assert (
        str(cluster) == "1 × head (32 CPU, 8 trial_slot), 3 × node (32 CPU, 4 GPU, 8 trial_slot)"
    )
    assert cluster.capacity({"CPU": 8, "GPU": 1}) == 12


def test_kubernetes_pods() -> None:
    job = yaml.safe_load((ROOT / "cluster/kuberay.yaml").read_text())
    config = _derive_autoscaling_config_from_ray_cr(
        {"metadata": {"name": "study", "namespace": "ray"}, "spec": job["spec"]["rayClusterSpec"]}
    )
    assert (
        str(joined_cluster(HEAD, [], config))
        == "1 × head (0 CPU, 8 trial_slot), up to 4 × gpu (4 CPU, 1 GPU)"
    )
