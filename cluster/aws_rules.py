"""Rules for AWS: settings that Ray does not check, and insecure defaults of Ray."""

from collections.abc import Iterator, Mapping
from typing import Any

import botocore.session
from botocore.model import ListShape, Shape, StringShape, StructureShape

from cluster.findings import TO_FILL, Finding, Tree, at
from trainables.configuration.schema import Place, nearest

RAYS_OWN = ("SubnetIds",)
"""Keys of a ``node_config`` that Ray evaluates itself and does not pass to AWS."""

WORLD = ("0.0.0.0/0", "::/0")
"""Address ranges that contain the whole internet."""


def check_aws(tree: Tree) -> Iterator[Finding]:
    """Check machines, their network and their permissions."""
    head = tree["head_node_type"]
    run_instances = (
        botocore.session.get_session()
        .get_service_model("ec2")
        .operation_model("RunInstances")
        .input_shape
    )
    for name, node_type in tree["available_node_types"].items():
        place: Place = ("available_node_types", name, "node_config")
        config = at(node_type, "node_config") or {}
        known = {key: value for key, value in config.items() if key not in RAYS_OWN}
        yield from _check_shape(place, known, run_instances)
        yield from _check_entrance(place, config, tree)
        yield from _check_metadata(place, config)
        yield from _check_disks(place, config)
        yield from _check_market(place, config, is_head=name == head)
    yield from _check_profiles(tree, head)
    yield from _check_network(tree)
    yield from _check_head_resources(tree, head)


# Values that RunInstances would reject, by AWS's own model of its API


def _check_shape(place: Place, value: object, shape: Shape) -> Iterator[Finding]:
    if isinstance(value, str) and TO_FILL in value:
        return
    if isinstance(shape, StructureShape):
        yield from _check_structure(place, value, shape)
    elif isinstance(shape, ListShape):
        if not isinstance(value, list):
            yield _wrong_type(place, value, "a list")
            return
        for index, item in enumerate(value):
            yield from _check_shape((*place, index), item, shape.member)
    elif isinstance(shape, StringShape):
        if not isinstance(value, str):
            yield _wrong_type(place, value, "text")
        elif shape.enum and value not in shape.enum:
            yield Finding(
                place,
                "must be a value that AWS knows",
                value,
                f"Correct it.{nearest(value, list(shape.enum))}",
            )
    elif shape.type_name == "boolean" and not isinstance(value, bool):
        yield _wrong_type(place, value, "true or false")
    elif shape.type_name in ("integer", "long") and type(value) is not int:
        yield _wrong_type(place, value, "an integer")


def _check_structure(place: Place, value: object, shape: StructureShape) -> Iterator[Finding]:
    if not isinstance(value, dict):
        yield _wrong_type(place, value, "a mapping")
        return
    members: Mapping[str, Shape] = shape.members
    for key, inner in value.items():
        if key in members:
            yield from _check_shape((*place, key), inner, members[key])
        else:
            yield Finding(
                (*place, key),
                "must be a key of RunInstances",
                key,
                f"Correct or remove it.{nearest(str(key), list(members))}",
            )


def _wrong_type(place: Place, value: object, wanted: str) -> Finding:
    return Finding(place, f"must be {wanted}", value, "RunInstances refuses it.")


# Insecure defaults of Ray


def _check_entrance(place: Place, config: Tree, tree: Tree) -> Iterator[Finding]:
    interfaces = at(config, "NetworkInterfaces") or []
    groups = at(config, "SecurityGroupIds") or [
        group for interface in interfaces for group in at(interface, "Groups") or []
    ]
    if not groups:
        yield from _check_made_group(place, tree)
    for index, interface in enumerate(interfaces):
        if at(interface, "AssociatePublicIpAddress"):
            yield Finding(
                (*place, "NetworkInterfaces", index, "AssociatePublicIpAddress"),
                "must be false",
                True,
                "Nodes need no public address; use a NAT.",
            )
    if not at(config, "ImageId"):
        yield Finding(
            (*place, "ImageId"),
            "must name the machine's image",
            None,
            "Name an ami-…; Ray's default is old and differs between its versions.",
        )
    if not at(config, "KeyName"):
        yield Finding(
            (*place, "KeyName"),
            "must name a key pair",
            None,
            "Name that of auth/ssh_private_key, or Ray makes one in your ~/.ssh.",
        )


def _check_made_group(place: Place, tree: Tree) -> Iterator[Finding]:
    rules = at(tree, "provider", "security_group", "IpPermissions")
    if rules is None:
        yield Finding(
            (*place, "SecurityGroupIds"),
            "must name a security group",
            None,
            "Name that of aws_setup.sh, or Ray makes one that lets the whole internet "
            "try to log in.",
        )
        return
    ranges = [
        block.get("CidrIp") or block.get("CidrIpv6")
        for rule in rules
        for key in ("IpRanges", "Ipv6Ranges")
        for block in rule.get(key, [])
    ]
    for block in ranges:
        if block in WORLD:
            yield Finding(
                ("provider", "security_group", "IpPermissions"),
                "must not let the whole internet in",
                block,
                "Give the addresses that you come from.",
            )


def _check_metadata(place: Place, config: Tree) -> Iterator[Finding]:
    options = at(config, "MetadataOptions") or {}
    if at(options, "HttpTokens") != "required":
        yield Finding(
            (*place, "MetadataOptions", "HttpTokens"),
            "must be required",
            at(options, "HttpTokens"),
            "Write HttpTokens: required (IMDSv2), or any program that can be made to "
            "fetch a page hands out the node's rights.",
        )
    hops = at(options, "HttpPutResponseHopLimit")
    if isinstance(hops, int) and hops > 1:
        yield Finding(
            (*place, "MetadataOptions", "HttpPutResponseHopLimit"),
            "must be 1",
            hops,
            "Ray's container shares the machine's network and needs no second hop.",
        )


def _check_disks(place: Place, config: Tree) -> Iterator[Finding]:
    disks = at(config, "BlockDeviceMappings") or []
    if not any(at(disk, "Ebs") for disk in disks):
        yield Finding(
            (*place, "BlockDeviceMappings"),
            "must describe the disk",
            disks,
            "The image's own is small and not encrypted. Copy that of the shipped file.",
        )
    for index, disk in enumerate(disks):
        disk_place = (*place, "BlockDeviceMappings", index, "Ebs")
        if at(disk, "Ebs") is None:
            continue
        for key, wanted in (
            ("Encrypted", True),
            ("VolumeType", "gp3"),
            ("DeleteOnTermination", True),
        ):
            if at(disk, "Ebs", key) != wanted:
                text = str(wanted).lower()
                yield Finding(
                    (*disk_place, key),
                    f"must be {text}",
                    at(disk, "Ebs", key),
                    f"Write {key}: {text}.",
                )


def _check_market(place: Place, config: Tree, is_head: bool) -> Iterator[Finding]:
    market = at(config, "InstanceMarketOptions")
    if market is None:
        return
    if is_head:
        yield Finding(
            (*place, "InstanceMarketOptions"),
            "must be absent on the head",
            market,
            "AWS may take a spot machine at any time, and the study with it.",
        )
    kind = at(market, "SpotOptions", "SpotInstanceType")
    if kind not in (None, "one-time"):
        yield Finding(
            (*place, "InstanceMarketOptions", "SpotOptions", "SpotInstanceType"),
            "must be one-time",
            kind,
            "A persistent request starts machines again after `ray down`.",
        )


def _check_profiles(tree: Tree, head: str) -> Iterator[Finding]:
    profiles: dict[str, Any] = {}
    for name in tree["available_node_types"]:
        place = ("available_node_types", name, "node_config", "IamInstanceProfile")
        given = at(tree, *place)
        profiles[name] = at(given, "Name") or at(given, "Arn")
        if not given:
            yield Finding(
                place,
                "must name an instance profile",
                None,
                "Name one of aws_setup.sh. Ray gives the head all rights to EC2 and S3 "
                "otherwise, and workers none, so that they can't store checkpoints.",
            )
    for name, profile in profiles.items():
        if name != head and profile and profile == profiles.get(head):
            yield Finding(
                ("available_node_types", name, "node_config", "IamInstanceProfile"),
                "must differ from the head's",
                profile,
                "Only the head may start machines; a worker runs the trials' code.",
            )


def _check_network(tree: Tree) -> Iterator[Finding]:
    if at(tree, "provider", "use_internal_ips") is not True:
        yield Finding(
            ("provider", "use_internal_ips"),
            "must be true",
            at(tree, "provider", "use_internal_ips"),
            "Reach the nodes through a VPN, or a bastion by auth/ssh_proxy_command.",
        )
    if at(tree, "provider", "cache_stopped_nodes") is not False:
        yield Finding(
            ("provider", "cache_stopped_nodes"),
            "must be false",
            at(tree, "provider", "cache_stopped_nodes"),
            "Stopped machines' disks cost money until somebody remembers them.",
        )
    if at(tree, "head_setup_commands") is None:
        yield Finding(
            ("head_setup_commands",),
            "must be given",
            None,
            "Write head_setup_commands: [], or Ray installs whichever boto3 is the "
            "latest; the image has one.",
        )
    if not at(tree, "auth", "ssh_private_key"):
        yield Finding(
            ("auth", "ssh_private_key"),
            "must name a key",
            None,
            "Name the file that belongs to KeyName.",
        )


def _check_head_resources(tree: Tree, head: str) -> Iterator[Finding]:
    place = ("available_node_types", head, "resources")
    if at(tree, *place, "CPU") != 0:
        yield Finding(
            (*place, "CPU"),
            "must be 0",
            at(tree, *place, "CPU"),
            "Ray counts the machine's own otherwise, whatever --num-cpus says.",
        )
