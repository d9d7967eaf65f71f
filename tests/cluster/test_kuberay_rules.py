"""Each hole in the file for Kubernetes is found, where it is."""

import pytest

from tests.cluster.holes import Change, drop, places, put

CLUSTER = "spec/rayClusterSpec"
POD = f"{CLUSTER}/workerGroupSpecs/0/template/spec"
HOLES: dict[str, tuple[Change, str]] = {
    "no token": (drop(f"{CLUSTER}/authOptions"), f"{CLUSTER}/authOptions/mode"),
    "open network": (drop(f"{CLUSTER}/networkPolicy"), f"{CLUSTER}/networkPolicy/mode"),
    "balancer": (
        put(f"{CLUSTER}/headGroupSpec/serviceType", "LoadBalancer"),
        f"{CLUSTER}/headGroupSpec/serviceType",
    ),
    "ingress": (
        put(f"{CLUSTER}/headGroupSpec/enableIngress", True),
        f"{CLUSTER}/headGroupSpec/enableIngress",
    ),
    "never ends": (drop("spec/shutdownAfterJobFinishes"), "spec/shutdownAfterJobFinishes"),
    "trials on the head": (
        drop(f"{CLUSTER}/headGroupSpec/rayStartParams/num-cpus"),
        f"{CLUSTER}/headGroupSpec/rayStartParams/num-cpus",
    ),
    "no slots": (
        put(f"{CLUSTER}/headGroupSpec/rayStartParams/resources", '"{\\"head\\": 1}"'),
        f"{CLUSTER}/headGroupSpec/rayStartParams/resources",
    ),
    "no cluster": (drop(CLUSTER), CLUSTER),
    "root": (put(f"{POD}/securityContext", {}), f"{POD}/securityContext/runAsNonRoot"),
    "escalation": (
        put(f"{POD}/containers/0/securityContext", {}),
        f"{POD}/containers/0/securityContext/allowPrivilegeEscalation",
    ),
    "tag": (put(f"{POD}/containers/0/image", "syn2real-study:1"), f"{POD}/containers/0/image"),
    "account": (drop(f"{POD}/serviceAccountName"), f"{POD}/serviceAccountName"),
    "secret": (
        put(f"{POD}/containers/0/env", [{"name": "AWS_SECRET_ACCESS_KEY", "value": "x"}]),
        f"{POD}/containers/0/env",
    ),
}


@pytest.mark.parametrize("hole", HOLES)
def test_a_hole_in_the_file_for_kubernetes_is_found_where_it_is(hole: str) -> None:
    change, place = HOLES[hole]
    assert places("kuberay.yaml", change) == [place]
