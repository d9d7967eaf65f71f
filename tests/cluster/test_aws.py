"""What ``ray up cluster/cluster.yaml`` would make on AWS: Ray's own code against AWS's interface.

A machine's settings are free text to Ray's schema; only here do they meet AWS.
"""

import copy
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import boto3
import botocore.client
import pytest
import yaml
from moto.server import ThreadedMotoServer
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.aws.utils import resource_cache
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.tags import (
    NODE_KIND_HEAD,
    NODE_KIND_WORKER,
    TAG_RAY_NODE_KIND,
    TAG_RAY_NODE_STATUS,
    TAG_RAY_USER_NODE_TYPE,
)

from tests.cluster.clouds import BUCKET, REGION, set_up_account
from tests.cluster.files import FOLDER, filled

pytestmark = pytest.mark.slow


@dataclass
class Course:
    """An account after a cluster was started in it, and what the head asked AWS for."""

    endpoint: str
    config: dict[str, Any]
    head_calls: set[str] = field(default_factory=set)

    def client(self, service: str) -> Any:
        return boto3.client(service, endpoint_url=self.endpoint, region_name=REGION)

    def instances(self) -> dict[str, list[dict[str, Any]]]:
        """Running machines by node type."""
        found: dict[str, list[dict[str, Any]]] = {}
        for reservation in self.client("ec2").describe_instances(
            Filters=[{"Name": "instance-state-name", "Values": ["pending", "running"]}]
        )["Reservations"]:
            for instance in reservation["Instances"]:
                tags = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
                found.setdefault(tags[TAG_RAY_USER_NODE_TYPE], []).append(instance)
        return found


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Course]:
    """A head, and workers that it starts: three, of which one is given back."""
    patch = pytest.MonkeyPatch()
    home = tmp_path_factory.mktemp("account") / "home"
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
    }.items():
        patch.setenv(name, value)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    patch.setenv("AWS_ENDPOINT_URL", endpoint)
    logging.getLogger("ray.autoscaler").setLevel(logging.ERROR)
    resource_cache.cache_clear()
    try:
        account = set_up_account(endpoint, home, "10.0.0.0/24")
        yield start_cluster(
            endpoint,
            yaml.safe_load(
                filled(
                    "cluster.yaml",
                    region=REGION,
                    ImageId=account.image,
                    SubnetIds=account.subnet,
                    SecurityGroupIds=account.group,
                )
            ),
        )
    finally:
        resource_cache.cache_clear()
        logging.getLogger("ray.autoscaler").setLevel(logging.NOTSET)
        server.stop()
        patch.undo()


def start_cluster(endpoint: str, config: dict[str, Any]) -> Course:
    """What ``ray up`` does, short of ssh, and then the head's part."""
    config = prepare_config(config)
    config = AWSNodeProvider.fillout_available_node_types_resources(config)
    validate_config(config)
    config = AWSNodeProvider.bootstrap_config(config)
    course = Course(endpoint, config)
    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    create(provider, config, NODE_KIND_HEAD, "head")

    call = botocore.client.BaseClient._make_api_call  # type: ignore[attr-defined]

    def recorded(self: Any, operation: str, parameters: object) -> object:
        course.head_calls.add(f"{self.meta.service_model.service_name}:{operation}")
        return call(self, operation, parameters)

    with pytest.MonkeyPatch.context() as recording:
        recording.setattr(botocore.client.BaseClient, "_make_api_call", recorded)
        for _ in range(3):
            create(provider, config, NODE_KIND_WORKER, "worker")
        workers = provider.non_terminated_nodes({TAG_RAY_NODE_KIND: NODE_KIND_WORKER})
        provider.set_node_tags(workers[0], {TAG_RAY_NODE_STATUS: "up-to-date"})
        provider.terminate_node(workers[-1])
    return course


def create(provider: AWSNodeProvider, config: dict[str, Any], kind: str, name: str) -> None:
    node_config = copy.deepcopy(config["available_node_types"][name]["node_config"])
    if kind == NODE_KIND_HEAD:
        node_config.update(config["head_node"])
    provider.create_node(
        node_config,
        {
            TAG_RAY_NODE_KIND: kind,
            TAG_RAY_USER_NODE_TYPE: name,
            TAG_RAY_NODE_STATUS: "uninitialized",
        },
        1,
    )


def test_machines_are_as_many_and_of_the_kind_that_was_asked_for(course: Course) -> None:
    machines = course.instances()
    assert [machine["InstanceType"] for machine in machines["head"]] == ["m6i.xlarge"]
    assert [machine["InstanceType"] for machine in machines["worker"]] == ["g5.xlarge"] * 2


def test_workers_are_spot_and_the_head_is_not(course: Course) -> None:
    machines = course.instances()
    assert [machine.get("InstanceLifecycle") for machine in machines["head"]] == [None]
    assert {machine.get("InstanceLifecycle") for machine in machines["worker"]} == {"spot"}


def test_the_only_ways_in_are_from_nodes_and_by_ssh_from_ones_own_network(course: Course) -> None:
    groups = {
        group["GroupId"]
        for machines in course.instances().values()
        for machine in machines
        for group in machine["SecurityGroups"]
    }
    found = course.client("ec2").describe_security_groups()["SecurityGroups"]
    (own,) = [group for group in found if group["GroupId"] in groups]
    assert {group["GroupName"] for group in found} == {"default", "syn2real"}
    from_nodes, by_ssh = sorted(own["IpPermissions"], key=lambda rule: rule["IpProtocol"])
    assert [pair["GroupId"] for pair in from_nodes["UserIdGroupPairs"]] == [own["GroupId"]]
    assert (from_nodes["IpRanges"], from_nodes["Ipv6Ranges"]) == ([], [])
    assert (by_ssh["FromPort"], by_ssh["ToPort"], by_ssh["IpProtocol"]) == (22, 22, "tcp")
    assert [block["CidrIp"] for block in by_ssh["IpRanges"]] == ["10.8.0.0/16"]


def test_metadata_want_a_session_and_stay_on_the_machine(course: Course) -> None:
    for machines in course.instances().values():
        for machine in machines:
            options = machine["MetadataOptions"]
            assert options["HttpTokens"] == "required"
            assert options["HttpPutResponseHopLimit"] == 1


def test_disks_are_encrypted_and_go_with_the_machine(course: Course) -> None:
    ec2 = course.client("ec2")
    disks = [
        disk["Ebs"]
        for machines in course.instances().values()
        for machine in machines
        for disk in machine["BlockDeviceMappings"]
    ]
    assert len(disks) == 3 and all(disk["DeleteOnTermination"] for disk in disks)
    volumes = ec2.describe_volumes(VolumeIds=[disk["VolumeId"] for disk in disks])["Volumes"]
    assert {(volume["Encrypted"], volume["VolumeType"]) for volume in volumes} == {(True, "gp3")}


def test_head_and_workers_have_rights_of_their_own(course: Course) -> None:
    iam = course.client("iam")
    profiles = {
        name: {machine["IamInstanceProfile"]["Arn"].split("/")[-1] for machine in machines}
        for name, machines in course.instances().items()
    }
    assert profiles == {"head": {"syn2real-head"}, "worker": {"syn2real-worker"}}
    assert {role["RoleName"] for role in iam.list_roles()["Roles"]} == {
        "syn2real-head",
        "syn2real-worker",
    }
    rights = {
        role: iam.list_role_policies(RoleName=f"syn2real-{role}")["PolicyNames"]
        for role in profiles
    }
    assert rights == {"head": ["storage", "workers"], "worker": ["storage"]}
    assert not any(
        iam.list_attached_role_policies(RoleName=f"syn2real-{role}")["AttachedPolicies"]
        for role in profiles
    )
    for profile in iam.list_instance_profiles()["InstanceProfiles"]:
        assert [role["RoleName"] for role in profile["Roles"]] == [profile["InstanceProfileName"]]


def test_the_head_may_do_what_it_does_and_no_more(course: Course) -> None:
    policy = json.loads((FOLDER / "iam" / "head.json").read_text())
    actions = {
        action
        for statement in policy["Statement"]
        for action in (
            statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        )
    }
    # AWS asks for the right to hand out a role when a machine with a profile starts.
    assert actions == course.head_calls | {"iam:PassRole"}
    unconditional = [
        statement["Sid"] for statement in policy["Statement"] if "Condition" not in statement
    ]
    assert unconditional == ["SeeNodes", "FromWhatIsThere"]


def test_names_agree_with_the_policies(course: Course) -> None:
    text = (FOLDER / "iam" / "head.json").read_text()
    assert text.count(f'ray-cluster-name": "{course.config["cluster_name"]}"') == 2
    worker = course.instances()["worker"][0]
    assert {"Key": "ray-cluster-name", "Value": course.config["cluster_name"]} in worker["Tags"]
    policy = course.client("iam").get_role_policy(
        RoleName="syn2real-worker", PolicyName="storage"
    )["PolicyDocument"]
    assert [statement["Resource"] for statement in policy["Statement"]] == [
        f"arn:aws:s3:::{BUCKET}",
        f"arn:aws:s3:::{BUCKET}/*",
    ]


def test_the_bucket_is_not_public(course: Course) -> None:
    s3 = course.client("s3")
    block = s3.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"]
    assert set(block.values()) == {True}


def test_token_and_key_are_for_their_owner_only(
    course: Course, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.getbasetemp() / "account0" / "home"
    for path in (home / ".ray" / "auth_token", home / ".ssh" / "syn2real"):
        assert path.stat().st_size and path.stat().st_mode & 0o077 == 0
    assert (home / ".ray").stat().st_mode & 0o077 == 0


def test_what_ray_works_out_agrees_with_the_start_commands(course: Course) -> None:
    resources = {
        name: node_type["resources"]
        for name, node_type in course.config["available_node_types"].items()
    }
    assert resources["head"]["CPU"] == 0 and "GPU" not in resources["head"]
    assert (resources["worker"]["CPU"], resources["worker"]["GPU"]) == (4, 1)
    start = course.config["head_start_ray_commands"][1]
    own = {key: resources["head"][key] for key in ("head", "trial_slot")}
    assert f"--resources='{json.dumps(own)}'" in start and "--num-cpus=0" in start
