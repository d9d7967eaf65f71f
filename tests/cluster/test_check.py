"""``python -m cluster.check``: what ships passes; each hole is found, where it is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.check import findings_of, main
from cluster.findings import Finding, at
from tests.cluster.files import FILLED, FOLDER, filled

Change = Callable[[Any], object]
WORKER = "available_node_types/worker/node_config"
HEAD = "available_node_types/head/node_config"
CLUSTER = "spec/rayClusterSpec"
POD = f"{CLUSTER}/workerGroupSpecs/0/template/spec"


def findings(text: str) -> list[Finding]:
    return findings_of(yaml.safe_load(text))


@pytest.mark.parametrize("name", FILLED)
def test_what_ships_passes_once_it_is_filled_in(name: str) -> None:
    assert findings(filled(name)) == []


@pytest.mark.parametrize("name", FILLED)
def test_what_is_left_to_fill_in_is_listed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(FOLDER / name)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert all("must be filled in" in line for line in lines)
    numbered = (FOLDER / name).read_text().splitlines()
    expected = {
        f"{FOLDER / name}:{number}" for number, line in enumerate(numbered, 1) if "FILL_IN" in line
    }
    assert expected <= {line.split(": ")[0] for line in lines}


# One hole each


def _set(place: str, value: object) -> Change:
    *keys, last = [int(key) if key.isdigit() else key for key in place.split("/")]

    def change(tree: Any) -> None:
        at(tree, *keys)[last] = value

    return change


def _drop(place: str) -> Change:
    *keys, last = place.split("/")
    return lambda tree: at(tree, *[int(k) if k.isdigit() else k for k in keys]).pop(last)


def _replace(place: str, old: str, new: str) -> Change:
    keys = [int(key) if key.isdigit() else key for key in place.split("/")]

    def change(tree: Any) -> None:
        text = at(tree, *keys)
        assert old in text
        at(tree, *keys[:-1])[keys[-1]] = text.replace(old, new)

    return change


START, JOIN = "head_start_ray_commands/1", "worker_start_ray_commands/1"
AWS_HOLES: dict[str, tuple[Change, str]] = {
    f"{START} must turn token": (_replace(START, "RAY_AUTH_MODE=token ", ""), START),
    f"{JOIN} must turn token": (_replace(JOIN, "RAY_AUTH_MODE=token ", ""), JOIN),
    "RAY_AUTH_MODE off": (_replace(START, "MODE=token", "MODE=disabled"), START),
    "no token": (_set("file_mounts", {}), "file_mounts"),
    "token for all eyes": (_set("setup_commands", []), "setup_commands"),
    "open dashboard": (_replace(START, "=127.0.0.1", "=0.0.0.0"), START),
    "dashboard by default": (_replace(START, "--dashboard-host=127.0.0.1", ""), START),
    "trials on the head": (_replace(START, "--num-cpus=0", ""), START),
    "CPUs of the head": (
        _drop("available_node_types/head/resources/CPU"),
        "available_node_types/head/resources/CPU",
    ),
    "no slots": (_replace(START, "trial_slot", "slot"), START),
    "no start": (_set("worker_start_ray_commands", ["ray stop"]), "worker_start_ray_commands"),
    "image by tag": (_set("docker/image", "registry/syn2real-study:latest"), "docker/image"),
    "no AMI": (_drop(f"{HEAD}/ImageId"), f"{HEAD}/ImageId"),
    "no group": (_drop(f"{WORKER}/SecurityGroupIds"), f"{WORKER}/SecurityGroupIds"),
    "public address": (
        _set(
            f"{WORKER}/NetworkInterfaces",
            [{"DeviceIndex": 0, "Groups": ["sg-0a"], "AssociatePublicIpAddress": True}],
        ),
        f"{WORKER}/NetworkInterfaces/0/AssociatePublicIpAddress",
    ),
    "public addresses": (_set("provider/use_internal_ips", False), "provider/use_internal_ips"),
    "IMDSv1": (
        _set(f"{WORKER}/MetadataOptions", {"HttpTokens": "optional"}),
        f"{WORKER}/MetadataOptions/HttpTokens",
    ),
    "IMDS by default": (_drop(f"{HEAD}/MetadataOptions"), f"{HEAD}/MetadataOptions/HttpTokens"),
    "IMDS from afar": (
        _set(f"{HEAD}/MetadataOptions", {"HttpTokens": "required", "HttpPutResponseHopLimit": 3}),
        f"{HEAD}/MetadataOptions/HttpPutResponseHopLimit",
    ),
    "image's own disk": (_drop(f"{WORKER}/BlockDeviceMappings"), f"{WORKER}/BlockDeviceMappings"),
    "no profile": (_drop(f"{WORKER}/IamInstanceProfile"), f"{WORKER}/IamInstanceProfile"),
    "one profile": (
        _set(f"{WORKER}/IamInstanceProfile", {"Name": "syn2real-head"}),
        f"{WORKER}/IamInstanceProfile",
    ),
    "no key": (_drop(f"{HEAD}/KeyName"), f"{HEAD}/KeyName"),
    "no key file": (_drop("auth/ssh_private_key"), "auth/ssh_private_key"),
    "what is latest": (_drop("head_setup_commands"), "head_setup_commands"),
    "spot head": (
        _set(f"{HEAD}/InstanceMarketOptions", {"MarketType": "spot"}),
        f"{HEAD}/InstanceMarketOptions",
    ),
    "spot for ever": (
        _set(f"{WORKER}/InstanceMarketOptions/SpotOptions/SpotInstanceType", "persistent"),
        f"{WORKER}/InstanceMarketOptions/SpotOptions/SpotInstanceType",
    ),
    "disks that stay": (
        _set("provider/cache_stopped_nodes", True),
        "provider/cache_stopped_nodes",
    ),
    "token in a command": (
        _set("setup_commands/0", "export RAY_AUTH_TOKEN=abc; chmod 600 ~/.ray/auth_token"),
        "setup_commands/0",
    ),
    "key in a command": (
        _set("initialization_commands/0", "aws configure set x AKIA" + "A" * 16),
        "initialization_commands/0",
    ),
    "keys in the file": (
        _set("provider/aws_credentials", {"aws_access_key_id": "x"}),
        "provider/aws_credentials",
    ),
    "keys shipped": (
        _set("file_mounts", {"~/.ray": "~/.ray", "~/.aws": "~/.aws"}),
        "file_mounts/~/.aws",
    ),
    "misspelt for Ray": (_set("idle_timeout_minuets", 5), ""),
    "against Ray's schema": (_set("max_workers", "4"), "max_workers"),
    "too few": (_set("available_node_types/worker/min_workers", 9), ""),
    "misspelt for AWS": (
        _set(f"{WORKER}/IamInstanceProfil", {"Name": "x"}),
        f"{WORKER}/IamInstanceProfil",
    ),
    "misspelt inside": (
        _set(f"{HEAD}/MetadataOptions/HttpTokns", "required"),
        f"{HEAD}/MetadataOptions/HttpTokns",
    ),
    "unknown machine": (_set(f"{WORKER}/InstanceType", "g5.xlage"), f"{WORKER}/InstanceType"),
    "a number as text": (
        _set(f"{HEAD}/MetadataOptions/HttpPutResponseHopLimit", "1"),
        f"{HEAD}/MetadataOptions/HttpPutResponseHopLimit",
    ),
    "no list": (_set(f"{HEAD}/SecurityGroupIds", "sg-0a"), f"{HEAD}/SecurityGroupIds"),
    "no mapping": (
        _set(f"{HEAD}/IamInstanceProfile", ["syn2real-head"]),
        f"{HEAD}/IamInstanceProfile",
    ),
}
DISK_HOLES = {"Encrypted": False, "VolumeType": "gp2", "DeleteOnTermination": False}

KUBERNETES_HOLES: dict[str, tuple[Change, str]] = {
    "no token": (_drop(f"{CLUSTER}/authOptions"), f"{CLUSTER}/authOptions/mode"),
    "open network": (_drop(f"{CLUSTER}/networkPolicy"), f"{CLUSTER}/networkPolicy/mode"),
    "balancer": (
        _set(f"{CLUSTER}/headGroupSpec/serviceType", "LoadBalancer"),
        f"{CLUSTER}/headGroupSpec/serviceType",
    ),
    "ingress": (
        _set(f"{CLUSTER}/headGroupSpec/enableIngress", True),
        f"{CLUSTER}/headGroupSpec/enableIngress",
    ),
    "never ends": (_drop("spec/shutdownAfterJobFinishes"), "spec/shutdownAfterJobFinishes"),
    "trials on the head": (
        _drop(f"{CLUSTER}/headGroupSpec/rayStartParams/num-cpus"),
        f"{CLUSTER}/headGroupSpec/rayStartParams/num-cpus",
    ),
    "no slots": (
        _set(f"{CLUSTER}/headGroupSpec/rayStartParams/resources", '"{\\"head\\": 1}"'),
        f"{CLUSTER}/headGroupSpec/rayStartParams/resources",
    ),
    "no cluster": (_drop(CLUSTER), CLUSTER),
    "root": (_set(f"{POD}/securityContext", {}), f"{POD}/securityContext/runAsNonRoot"),
    "escalation": (
        _set(f"{POD}/containers/0/securityContext", {}),
        f"{POD}/containers/0/securityContext/allowPrivilegeEscalation",
    ),
    "tag": (_set(f"{POD}/containers/0/image", "syn2real-study:1"), f"{POD}/containers/0/image"),
    "account": (_drop(f"{POD}/serviceAccountName"), f"{POD}/serviceAccountName"),
    "secret": (
        _set(f"{POD}/containers/0/env", [{"name": "AWS_SECRET_ACCESS_KEY", "value": "x"}]),
        f"{POD}/containers/0/env",
    ),
}


def places(name: str, change: Change) -> list[str]:
    """Where something is found after a change; aliases are taken apart first."""
    tree = yaml.safe_load(filled(name))
    tree = yaml.safe_load(yaml.dump(tree, Dumper=_NoAliases))
    change(tree)
    return ["/".join(map(str, finding.place)) for finding in findings_of(tree)]


class _NoAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


@pytest.mark.parametrize("hole", AWS_HOLES)
def test_a_hole_in_the_file_for_aws_is_found_where_it_is(hole: str) -> None:
    change, place = AWS_HOLES[hole]
    assert places("cluster.yaml", change) == [place]


@pytest.mark.parametrize("key", DISK_HOLES)
def test_a_hole_in_a_disk_is_found(key: str) -> None:
    place = f"{WORKER}/BlockDeviceMappings/0/Ebs/{key}"
    assert places("cluster.yaml", _set(place, DISK_HOLES[key])) == [place]


@pytest.mark.parametrize("hole", KUBERNETES_HOLES)
def test_a_hole_in_the_file_for_kubernetes_is_found_where_it_is(hole: str) -> None:
    change, place = KUBERNETES_HOLES[hole]
    assert places("kuberay.yaml", change) == [place]


@pytest.mark.parametrize(
    "change, place",
    [
        (_replace(START, "RAY_AUTH_MODE=token ", ""), START),
        (_replace(START, "--dashboard-host=127.0.0.1", ""), START),
        (_set("file_mounts", {}), "file_mounts"),
        (_set("docker/image", "syn2real-study"), "docker/image"),
        (_drop("provider/head_ip"), "provider/head_ip"),
        (_set("provider/worker_ips", []), "provider/worker_ips"),
    ],
)
def test_a_hole_in_the_file_for_machines_is_found(change: Change, place: str) -> None:
    assert places("onprem.yaml", change) == [place]


def test_a_group_that_ray_makes_may_not_be_open() -> None:
    def change(tree: Any) -> None:
        for node_type in tree["available_node_types"].values():
            node_type["node_config"].pop("SecurityGroupIds")
        tree["provider"]["security_group"] = {
            "IpPermissions": [
                {
                    "FromPort": 22,
                    "ToPort": 22,
                    "IpProtocol": "tcp",
                    "IpRanges": [{"CidrIp": address}],
                }
            ]
        }

    address = "0.0.0.0/0"
    assert set(places("cluster.yaml", change)) == {"provider/security_group/IpPermissions"}
    address = "10.8.0.0/16"
    assert places("cluster.yaml", change) == []


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
    assert places("cluster.yaml", _set(START, text)) == []


# The command


def test_each_finding_is_a_line_with_place_rule_value_and_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    text = filled("cluster.yaml").replace("HttpTokens: required", "HttpTokens: optional")
    path.write_text(text.replace("InstanceMarketOptions:", "InstanceMarketOption:"))
    number = next(
        i
        for i, line in enumerate(path.read_text().splitlines(), 1)
        if "InstanceMarketOption:" in line
    )
    assert main([str(path)]) == 1
    (misspelt,) = [
        line for line in capsys.readouterr().out.splitlines() if "InstanceMarketOption" in line
    ]
    assert misspelt.startswith(
        f"{path}:{number}: {WORKER}/InstanceMarketOption: must be a key of RunInstances, got "
        "'InstanceMarketOption'. Correct or remove it. Did you mean 'InstanceMarketOptions'?"
    )


def test_a_file_without_findings_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(filled("onprem.yaml"))
    assert main([str(path)]) == 0
    assert capsys.readouterr() == (f"{path}: nothing found.\n", "")


@pytest.mark.parametrize(
    "text, reason",
    [
        (None, "No such file"),
        ("a: [", "not YAML"),
        ("task: digits", "must be a file of `ray up`"),
        ("provider: {type: gcp}", "aws or local"),
        ("provider: aws", "aws or local"),
        ("apiVersion: ray.io/v1\nkind: RayCluster", "RayJob"),
    ],
)
def test_other_files_are_bad_input(
    text: str | None, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    if text is not None:
        path.write_text(text)
    assert main([str(path)]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith(str(path)) and reason in printed.err
