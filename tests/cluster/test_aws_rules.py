"""Each hole in the file for AWS is found, where it is: machines, rights, network and disks."""

from typing import Any

import pytest

from tests.cluster.holes import HEAD, WORKER, Change, drop, places, put

HOLES: dict[str, tuple[Change, str]] = {
    "CPUs of the head": (
        drop("available_node_types/head/resources/CPU"),
        "available_node_types/head/resources/CPU",
    ),
    "no AMI": (drop(f"{HEAD}/ImageId"), f"{HEAD}/ImageId"),
    "no group": (drop(f"{WORKER}/SecurityGroupIds"), f"{WORKER}/SecurityGroupIds"),
    "public address": (
        put(
            f"{WORKER}/NetworkInterfaces",
            [{"DeviceIndex": 0, "Groups": ["sg-0a"], "AssociatePublicIpAddress": True}],
        ),
        f"{WORKER}/NetworkInterfaces/0/AssociatePublicIpAddress",
    ),
    "public addresses": (put("provider/use_internal_ips", False), "provider/use_internal_ips"),
    "IMDSv1": (
        put(f"{WORKER}/MetadataOptions", {"HttpTokens": "optional"}),
        f"{WORKER}/MetadataOptions/HttpTokens",
    ),
    "IMDS by default": (drop(f"{HEAD}/MetadataOptions"), f"{HEAD}/MetadataOptions/HttpTokens"),
    "IMDS from afar": (
        put(f"{HEAD}/MetadataOptions", {"HttpTokens": "required", "HttpPutResponseHopLimit": 3}),
        f"{HEAD}/MetadataOptions/HttpPutResponseHopLimit",
    ),
    "image's own disk": (drop(f"{WORKER}/BlockDeviceMappings"), f"{WORKER}/BlockDeviceMappings"),
    "no profile": (drop(f"{WORKER}/IamInstanceProfile"), f"{WORKER}/IamInstanceProfile"),
    "one profile": (
        put(f"{WORKER}/IamInstanceProfile", {"Name": "syn2real-head"}),
        f"{WORKER}/IamInstanceProfile",
    ),
    "no key": (drop(f"{HEAD}/KeyName"), f"{HEAD}/KeyName"),
    "no key file": (drop("auth/ssh_private_key"), "auth/ssh_private_key"),
    "what is latest": (drop("head_setup_commands"), "head_setup_commands"),
    "spot head": (
        put(f"{HEAD}/InstanceMarketOptions", {"MarketType": "spot"}),
        f"{HEAD}/InstanceMarketOptions",
    ),
    "spot for ever": (
        put(f"{WORKER}/InstanceMarketOptions/SpotOptions/SpotInstanceType", "persistent"),
        f"{WORKER}/InstanceMarketOptions/SpotOptions/SpotInstanceType",
    ),
    "disks that stay": (
        put("provider/cache_stopped_nodes", True),
        "provider/cache_stopped_nodes",
    ),
    "misspelt for AWS": (
        put(f"{WORKER}/IamInstanceProfil", {"Name": "x"}),
        f"{WORKER}/IamInstanceProfil",
    ),
    "misspelt inside": (
        put(f"{HEAD}/MetadataOptions/HttpTokns", "required"),
        f"{HEAD}/MetadataOptions/HttpTokns",
    ),
    "unknown machine": (put(f"{WORKER}/InstanceType", "g5.xlage"), f"{WORKER}/InstanceType"),
    "a number as text": (
        put(f"{HEAD}/MetadataOptions/HttpPutResponseHopLimit", "1"),
        f"{HEAD}/MetadataOptions/HttpPutResponseHopLimit",
    ),
    "no list": (put(f"{HEAD}/SecurityGroupIds", "sg-0a"), f"{HEAD}/SecurityGroupIds"),
    "no mapping": (
        put(f"{HEAD}/IamInstanceProfile", ["syn2real-head"]),
        f"{HEAD}/IamInstanceProfile",
    ),
}
DISK_HOLES = {"Encrypted": False, "VolumeType": "gp2", "DeleteOnTermination": False}


@pytest.mark.slow
@pytest.mark.parametrize("hole", HOLES)
def test_a_hole_in_the_file_for_aws_is_found_where_it_is(hole: str) -> None:
    change, place = HOLES[hole]
    assert places("cluster.yaml", change) == [place]


@pytest.mark.parametrize("key", DISK_HOLES)
def test_a_hole_in_a_disk_is_found(key: str) -> None:
    place = f"{WORKER}/BlockDeviceMappings/0/Ebs/{key}"
    assert places("cluster.yaml", put(place, DISK_HOLES[key])) == [place]


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
