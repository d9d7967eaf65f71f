"""The most that a joined cluster may become, by its autoscaler."""

import study.execution.ray_settings  # noqa: F401 - before Ray

# isort: split
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
import yaml
from ray.autoscaler._private.util import prepare_config

from study.execution.placement import Cluster, joined_cluster, num_awaited

HEAD = "node:__internal_head__"
"""The resource by which Ray marks the head."""

JOIN_SECONDS = 120.0
"""That machines of a fixed cluster are given to join after its start."""

KUBERNETES = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""There in a pod."""


def most_machines(say: Callable[[str], None]) -> Cluster:
    """What the cluster may become, by its autoscaler's configuration."""
    on_head = ray.remote(num_cpus=0, resources={HEAD: 0.001})(_autoscaling)
    autoscaling: dict[str, Any] | None = ray.get(on_head.remote())
    deadline = time.monotonic() + JOIN_SECONDS
    while autoscaling and (missing := num_awaited(autoscaling) - len(_machines()[1])) > 0:
        if time.monotonic() > deadline:
            say(f"{missing} machines have not joined. Going on without them.")
            break
        time.sleep(1)
    return joined_cluster(*_machines(), autoscaling)


def _machines() -> tuple[Mapping[str, float], list[Mapping[str, float]]]:
    """Resources of the head and of the others, as far as they have joined."""
    there = [
        node["Resources"]
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"]
    ]
    head = next(each for each in there if HEAD in each)
    return head, [each for each in there if each is not head]


def _autoscaling() -> dict[str, Any] | None:
    """The configuration of a cluster's autoscaler, where this runs on the head.

    Ray reports it nowhere: on Kubernetes the operator's resource has it, elsewhere the file that
    the autoscaler's process was given.

    Returns:
        ``None`` if there is no autoscaler.
    """
    if "RAY_CLUSTER_NAME" in os.environ and KUBERNETES.exists():
        return _autoscaling_by_kuberay(os.environ["RAY_CLUSTER_NAME"], KUBERNETES.read_text())
    gcs = f"--gcs-address={ray.get_runtime_context().gcs_address}"
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = process.read_bytes().decode(errors="replace").split("\0")
        except OSError:  # gone, or another user's
            continue
        if gcs in arguments:
            for argument in arguments:
                name, _, value = argument.partition("=")
                if name == "--autoscaling-config":
                    config = yaml.safe_load(Path(value).expanduser().read_text())
                    return dict(prepare_config(config))
    return None


def _autoscaling_by_kuberay(name: str, namespace: str) -> dict[str, Any] | None:
    """The same of a cluster that KubeRay's operator has started."""
    from ray.autoscaler._private.kuberay.autoscaling_config import (
        _derive_autoscaling_config_from_ray_cr,
    )
    from ray.autoscaler._private.kuberay.node_provider import KubernetesHttpApiClient

    resource = KubernetesHttpApiClient(namespace=namespace).get(f"rayclusters/{name}")
    if not resource["spec"].get("enableInTreeAutoscaling"):
        return None
    return dict(_derive_autoscaling_config_from_ray_cr(resource))
