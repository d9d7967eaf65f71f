"""Each hole in a file of `ray up` is found, where it is, whatever provides the machines."""

import pytest

from tests.cluster.holes import Change, drop, places, put, replace

START, JOIN = "head_start_ray_commands/1", "worker_start_ray_commands/1"
HOLES: dict[str, tuple[Change, str]] = {
    f"{START} must turn token": (replace(START, "RAY_AUTH_MODE=token ", ""), START),
    f"{JOIN} must turn token": (replace(JOIN, "RAY_AUTH_MODE=token ", ""), JOIN),
    "RAY_AUTH_MODE off": (replace(START, "MODE=token", "MODE=disabled"), START),
    "no token": (put("file_mounts", {}), "file_mounts"),
    "token for all eyes": (put("setup_commands", []), "setup_commands"),
    "open dashboard": (replace(START, "=127.0.0.1", "=0.0.0.0"), START),
    "dashboard by default": (replace(START, "--dashboard-host=127.0.0.1", ""), START),
    "trials on the head": (replace(START, "--num-cpus=0", ""), START),
    "no slots": (replace(START, "trial_slot", "slot"), START),
    "no start": (put("worker_start_ray_commands", ["ray stop"]), "worker_start_ray_commands"),
    "image by tag": (put("docker/image", "registry/syn2real-study:latest"), "docker/image"),
    "token in a command": (
        put("setup_commands/0", "export RAY_AUTH_TOKEN=abc; chmod 600 ~/.ray/auth_token"),
        "setup_commands/0",
    ),
    "key in a command": (
        put("initialization_commands/0", "aws configure set x AKIA" + "A" * 16),
        "initialization_commands/0",
    ),
    "keys in the file": (
        put("provider/aws_credentials", {"aws_access_key_id": "x"}),
        "provider/aws_credentials",
    ),
    "keys shipped": (
        put("file_mounts", {"~/.ray": "~/.ray", "~/.aws": "~/.aws"}),
        "file_mounts/~/.aws",
    ),
    "misspelt for Ray": (put("idle_timeout_minuets", 5), ""),
    "against Ray's schema": (put("max_workers", "4"), "max_workers"),
    "too few": (put("available_node_types/worker/min_workers", 9), ""),
}


@pytest.mark.slow
@pytest.mark.parametrize("hole", HOLES)
def test_a_hole_in_the_file_for_aws_is_found_where_it_is(hole: str) -> None:
    change, place = HOLES[hole]
    assert places("cluster.yaml", change) == [place]


@pytest.mark.parametrize(
    "change, place",
    [
        (replace(START, "RAY_AUTH_MODE=token ", ""), START),
        (replace(START, "--dashboard-host=127.0.0.1", ""), START),
        (put("file_mounts", {}), "file_mounts"),
        (put("docker/image", "syn2real-study"), "docker/image"),
        (drop("provider/head_ip"), "provider/head_ip"),
        (put("provider/worker_ips", []), "provider/worker_ips"),
    ],
)
def test_a_hole_in_the_file_for_machines_is_found(change: Change, place: str) -> None:
    assert places("onprem.yaml", change) == [place]


@pytest.mark.parametrize(
    "text",
    [
        "export RAY_AUTH_MODE=token; ray start --head --num-cpus 0 --dashboard-host 127.0.0.1 "
        "--resources '{\"trial_slot\": 2}'",
        "ulimit -n 65536 && RAY_AUTH_MODE=token ray start --head --dashboard-host=localhost "
        "--num-cpus=0 --resources='{\"trial_slot\": 2}'",
    ],
)
def test_commands_may_be_written_in_other_ways(text: str) -> None:
    assert places("cluster.yaml", put(START, text)) == []
