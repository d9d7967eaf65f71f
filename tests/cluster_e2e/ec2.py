"""AWS on this machine: moto answers, and each instance that it lists becomes a machine."""

import logging
import time
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any

import boto3
from moto.server import ThreadedMotoServer
from ray.autoscaler.tags import TAG_RAY_USER_NODE_TYPE

from tests.cluster.clouds import REGION
from tests.cluster_e2e.hosts import BRIDGE_ADDRESS, Hosts

PORT = 5005
ENDPOINT = f"http://{BRIDGE_ADDRESS}:{PORT}"


@dataclass
class Cloud:
    """Starts and ends machines as the interface's instances do."""

    hosts: Hosts
    profiles: dict[str, str] = field(default_factory=dict)
    """By node type: the keys that AWS hands to machines through their instance profile."""
    launched: dict[str, str] = field(default_factory=dict)
    """Node type of every instance that has ever run."""
    is_over: Event = field(default_factory=Event)
    error: list[BaseException] = field(default_factory=list)

    def __enter__(self) -> "Cloud":
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line a request
        self.server = ThreadedMotoServer(ip_address=BRIDGE_ADDRESS, port=PORT, verbose=False)
        self.server.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.is_over.set()
        if hasattr(self, "thread"):
            self.thread.join()
        self.server.stop()

    def client(self, service: str) -> Any:
        """Of an administrator."""
        return boto3.client(service, endpoint_url=ENDPOINT, region_name=REGION)

    def follow(self) -> None:
        """Begins to make machines."""
        self.thread = Thread(target=self._follow, daemon=True)
        self.thread.start()

    def _follow(self) -> None:
        try:
            while not self.is_over.wait(0.5):
                self._step()
        except BaseException as error:
            self.error.append(error)
            raise

    def _step(self) -> None:
        wanted = self.instances()
        for instance, (node_type, address) in wanted.items():
            if instance not in self.launched:
                self.launched[instance] = node_type
                self.hosts.create(instance, address, self.profiles[node_type])
        for name in list(self.hosts.running):
            if name in self.launched and name not in wanted:
                self.hosts.destroy(name)

    def instances(self, node_type: str | None = None) -> dict[str, tuple[str, str]]:
        """Node type and address of each running instance."""
        found = {}
        for reservation in self.client("ec2").describe_instances(
            Filters=[{"Name": "instance-state-name", "Values": ["pending", "running"]}]
        )["Reservations"]:
            for instance in reservation["Instances"]:
                tags = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
                kind = tags[TAG_RAY_USER_NODE_TYPE]
                if node_type in (None, kind):
                    found[instance["InstanceId"]] = (kind, instance["PrivateIpAddress"])
        return found

    def take_away(self, instance: str) -> None:
        """What AWS does to a spot instance: the plug is pulled, then the interface says so."""
        self.hosts.destroy(instance)
        self.client("ec2").terminate_instances(InstanceIds=[instance])

    def wait_until_empty(self, seconds: float) -> None:
        """Waits until all instances have been terminated and their machines are gone."""
        deadline = time.monotonic() + seconds
        while self.instances() or set(self.launched) & set(self.hosts.running):
            assert time.monotonic() < deadline, self.instances()
            time.sleep(0.2)
