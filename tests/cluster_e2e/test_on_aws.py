"""cluster.yaml from ``ray up`` to ``ray down``: trials outlive a worker that AWS takes away.

Ray's launcher and autoscaler, ssh, authentication and storage are the real ones; the machines are
namespaces, so the container is left out, and AWS is moto.
"""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.cluster.clouds import BUCKET, REGION, set_up_account
from tests.cluster.files import filled
from tests.cluster_e2e.ec2 import ENDPOINT, Cloud
from tests.cluster_e2e.hosts import PREFIX, Hosts
from tests.cluster_e2e.laptop import SECONDS, Laptop, outcome_of, status
from tests.cluster_e2e.leaks import DECOY, ProcessList, files_with, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600)]


@dataclass
class Course:
    """What was seen of one cluster."""

    outcome: dict[str, Any] = field(default_factory=dict)
    statuses: dict[str, int | None] = field(default_factory=dict)
    stranger: "subprocess.CompletedProcess[str] | None" = None
    lost: str = ""
    launched: dict[str, str] = field(default_factory=dict)
    lifecycles: dict[str, str | None] = field(default_factory=dict)
    stored: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    in_process_lists: dict[str, str] = field(default_factory=dict)


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Course]:
    """A cluster's life."""
    folder = tmp_path_factory.mktemp("aws")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"AWS_ACCESS_KEY_ID": "admin", "AWS_SECRET_ACCESS_KEY": "admin",
                            "AWS_ENDPOINT_URL": ENDPOINT, "AWS_DEFAULT_REGION": REGION,
                            "AWS_EC2_METADATA_DISABLED": "true"}.items():
            patch.setenv(name, value)
        home = folder / "home"
        with Hosts(folder, home / ".ssh" / "syn2real.pub") as hosts, Cloud(hosts) as cloud:
            account = set_up_account(ENDPOINT, home, f"{PREFIX}.0/24")
            cluster = folder / "cluster.yaml"
            cluster.write_text(without_container(filled(
                "cluster.yaml", region=REGION, ImageId=account.image, SubnetIds=account.subnet,
                SecurityGroupIds=account.group), home))
            private_key = (home / ".ssh" / "syn2real").read_text().splitlines()[-2]
            token = (home / ".ray" / "auth_token").read_text().strip()
            secrets = [*give_keys(cloud), private_key, token]
            cloud.follow()
            with ProcessList(secrets) as processes, Laptop(home) as laptop:
                yield live(laptop, cluster, cloud, hosts, secrets, processes)


def without_container(text: str, home: Path) -> str:
    """The file with sizes and users of these machines."""
    head, container = text.split("\ndocker:\n")
    tail = container[container.index("\nhead_node_type:"):]
    text = f"{head}\n{tail}"
    for old, new in {
        "ssh_user: ubuntu": "ssh_user: root",
        "~/.ssh/": f"{home}/.ssh/",  # ssh takes ~ from the system's list of users, not from HOME
        "max_workers: 4 ": "max_workers: 2 ",
        "--disable-usage-stats": "--disable-usage-stats --object-store-memory=150000000",
    }.items():
        assert old in text
        text = text.replace(old, new)
    return text


def give_keys(cloud: Cloud) -> list[str]:
    """Hands each machine the keys of its role; returns those that nobody else may see."""
    secrets = []
    for node_type in ("head", "worker"):
        role = f"arn:aws:iam::123456789012:role/syn2real-{node_type}"
        keys = cloud.client("sts").assume_role(RoleArn=role, RoleSessionName=node_type)[
            "Credentials"]
        cloud.profiles[node_type] = (
            f"export AWS_ACCESS_KEY_ID={keys['AccessKeyId']}\n"
            f"export AWS_SECRET_ACCESS_KEY={keys['SecretAccessKey']}\n"
            f"export AWS_SESSION_TOKEN={keys['SessionToken']}\n"
            f"export AWS_ENDPOINT_URL={ENDPOINT} AWS_DEFAULT_REGION={REGION}\n")
        secrets += [keys["SecretAccessKey"], keys["SessionToken"]]
    return secrets


def live(laptop: Laptop, cluster: Path, cloud: Cloud, hosts: Hosts, secrets: list[str],
         processes: ProcessList) -> Course:
    """Starts the cluster, runs a job on it, takes a worker away, ends it."""
    course, token = Course(), secrets[-1]
    secrets.append(DECOY)
    laptop.run("python", "-m", "cluster.check", str(cluster))
    laptop.run("ray", "up", "--yes", "--no-config-cache", str(cluster))
    with laptop.tunnel(cluster):
        course.statuses = {"without": status(None), "wrong": status("0" * 64),
                           "right": status(token)}
        job = laptop.submit("python", "-m", "tests.cluster_e2e.job",
                            "--storage", f"s3://{BUCKET}/runs")
        wait_for(lambda: len(stored(cloud, "latest.pt")) >= 2 or job.poll() is not None, SECONDS,
                 "two trials' checkpoints")
        assert job.poll() is None, laptop.finish(job, 1)
        course.lost = next(iter(cloud.instances("worker")))
        cloud.take_away(course.lost)
        course.stranger = join_without_token(hosts, head_address(cloud))
        output = laptop.finish(job)
        course.outcome = outcome_of(output)
    look_for_leaks(course, cloud, hosts, secrets, laptop)
    course.stored = stored(cloud, "")
    course.lifecycles = lifecycles(cloud)
    laptop.run("ray", "down", "--yes", str(cluster))
    cloud.wait_until_empty(SECONDS)
    course.launched = dict(cloud.launched)
    course.in_process_lists = processes.found
    assert not cloud.error
    return course


def stored(cloud: Cloud, name: str) -> list[str]:
    """Keys in the bucket that end in a name; of checkpoints, one a trial."""
    pages = cloud.client("s3").list_objects_v2(Bucket=BUCKET).get("Contents", [])
    keys = [page["Key"] for page in pages if page["Key"].endswith(name)]
    return sorted({key.rpartition("/checkpoint_")[0] for key in keys}) if name else keys


def head_address(cloud: Cloud) -> str:
    (_, address), = cloud.instances("head").values()
    return address


def join_without_token(hosts: Hosts, head: str) -> "subprocess.CompletedProcess[str]":
    """A machine in the same network tries to become a node."""
    stranger = hosts.create("stranger", f"{PREFIX}.250")
    stranger.run("mkdir -p ~/.ray; echo 0123456789abcdef > ~/.ray/auth_token")
    done = stranger.run(f"RAY_AUTH_MODE=token timeout 60 ray start --address={head}:6379")
    hosts.destroy("stranger")
    return done


def look_for_leaks(course: Course, cloud: Cloud, hosts: Hosts, secrets: list[str],
                   laptop: Laptop) -> None:
    """Logs, working directories and homes of the machines, the storage, what was printed."""
    head, = cloud.instances("head")
    hosts.running[head].run(f"echo {DECOY} > /tmp/ray/session_latest/logs/decoy; sleep 1")
    for name in set(cloud.launched) & set(hosts.running):
        course.leaks += files_with(secrets, hosts.written_by(name),
                                   but=["auth_token", ".bash_profile", "ray_bootstrap_key.pem"])
    s3 = cloud.client("s3")
    for key in stored(cloud, ""):
        content = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        course.leaks += [key for secret in secrets if secret.encode() in content]
    course.leaks += [text[:60] for text in laptop.said if any(s in text for s in secrets)]


def lifecycles(cloud: Cloud) -> dict[str, str | None]:
    """Whether each instance was a spot one."""
    return {instance["InstanceId"]: instance.get("InstanceLifecycle")
            for reservation in boto3.client(
                "ec2", endpoint_url=ENDPOINT, region_name=REGION).describe_instances()[
                    "Reservations"] for instance in reservation["Instances"]}


def test_all_trials_end_without_an_error(course: Course) -> None:
    assert course.outcome["errors"] == 0
    assert [(trial["evaluations"], trial["finished"]) for trial in course.outcome["trials"]] \
        == [(60, True)] * 3


def test_what_ran_on_the_lost_worker_went_on_from_the_storage(course: Course) -> None:
    resumed = [trial for trial in course.outcome["trials"] if trial["resumed_at"]]
    assert len(resumed) == 1 and 0 < resumed[0]["resumed_at"] < 60
    assert resumed[0]["host"] != course.lost


def test_workers_are_spot_machines_that_the_head_started_and_replaced(course: Course) -> None:
    kinds = sorted(course.launched.values())
    assert kinds == ["head", "worker", "worker", "worker"]
    for instance, kind in course.launched.items():
        assert course.lifecycles[instance] == ("spot" if kind == "worker" else None)
    assert course.lost not in course.outcome["nodes"]


def test_checkpoints_are_in_the_bucket(course: Course) -> None:
    assert sum(key.endswith("/latest.pt") for key in course.stored) >= 3


def test_the_job_interface_wants_the_token(course: Course) -> None:
    assert course.statuses == {"without": 401, "wrong": 403, "right": 200}


def test_a_node_without_the_token_cannot_join(course: Course) -> None:
    assert course.stranger is not None and course.stranger.returncode != 0
    assert "stranger" not in course.outcome["nodes"]


def test_secrets_are_nowhere(course: Course) -> None:
    assert [Path(leak).name for leak in course.leaks] == ["decoy"]
    assert set(course.in_process_lists) == {DECOY}, course.in_process_lists
