"""cluster.yaml from ``ray up`` to ``ray down``: a study outlives a worker and the head.

Ray's launcher and autoscaler, ssh, authentication and storage are the real ones; the machines are
namespaces, so the container is left out, and AWS is moto.
"""

import logging
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from study.trials.records import TrialRecord
from tests.cluster.clouds import REGION, set_up_account
from tests.cluster.files import filled
from tests.cluster_e2e.bucket import NAME, STORAGE, Bucket
from tests.cluster_e2e.ec2 import ENDPOINT, Cloud
from tests.cluster_e2e.hosts import PREFIX, Hosts
from tests.cluster_e2e.laptop import SECONDS, Laptop, status
from tests.cluster_e2e.leaks import DECOY, ProcessList, files_with, wait_for

log = logging.getLogger(__name__)

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600)]

NUM_TRIALS, NUM_EPOCHS = 3, 40
FIRST, SECOND = "0000", "0001"
"""The trials that are interrupted: there is room for one at a time."""


@dataclass
class Loss:
    """How far a trial was before something was lost, and when it had gone on."""

    before: dict[str, Any]
    after: dict[str, Any]


@dataclass
class Course:
    """What was seen of one cluster."""

    statuses: dict[str, int | None] = field(default_factory=dict)
    stranger: "subprocess.CompletedProcess[str] | None" = None
    lost_worker: str = ""
    losses: list[Loss] = field(default_factory=list)
    records_before: list[TrialRecord] = field(default_factory=list)
    """Those of before the head was lost."""
    records: list[TrialRecord] = field(default_factory=list)
    result: str = ""
    """What the study printed in the end."""
    launched: dict[str, str] = field(default_factory=dict)
    at_the_end: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Instances before ``ray down``."""
    lifecycles: dict[str, str | None] = field(default_factory=dict)
    leaks: list[str] = field(default_factory=list)
    in_process_lists: dict[str, str] = field(default_factory=dict)


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Course]:
    """A cluster's life."""
    folder = tmp_path_factory.mktemp("aws")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "admin",
            "AWS_SECRET_ACCESS_KEY": "admin",
            "AWS_ENDPOINT_URL": ENDPOINT,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            patch.setenv(name, value)
        home = folder / "home"
        with Hosts(folder, home / ".ssh" / "syn2real.pub") as hosts, Cloud(hosts) as cloud:
            account = set_up_account(ENDPOINT, home, f"{PREFIX}.0/24")
            cluster = folder / "cluster.yaml"
            cluster.write_text(
                without_container(
                    filled(
                        "cluster.yaml",
                        region=REGION,
                        ImageId=account.image,
                        SubnetIds=account.subnet,
                        SecurityGroupIds=account.group,
                    ),
                    home,
                )
            )
            secrets = [*give_keys(cloud), DECOY, token_of(home), private_key_of(home)]
            cloud.follow()
            with ProcessList(secrets) as processes, Laptop(home) as laptop:
                life = Life(laptop, cluster, cloud, hosts, secrets)
                life.begin()
                life.lose_a_worker()
                life.lose_the_head()
                life.resume()
                life.end()
            life.course.in_process_lists = processes.found
            assert not cloud.error
            yield life.course


def token_of(home: Path) -> str:
    return (home / ".ray" / "auth_token").read_text().strip()


def private_key_of(home: Path) -> str:
    """A line of it that no other key has."""
    return (home / ".ssh" / "syn2real").read_text().splitlines()[-2]


def without_container(text: str, home: Path) -> str:
    """The file with sizes and users of these machines."""
    head, container = text.split("\ndocker:\n")
    tail = container[container.index("\nhead_node_type:") :]
    text = f"{head}\n{tail}"
    for old, new in {
        "ssh_user: ubuntu": "ssh_user: root",
        "~/.ssh/": f"{home}/.ssh/",  # ssh takes ~ from the system's list of users, not from HOME
        "max_workers: 4 ": "max_workers: 2 ",
        "    min_workers: 0\n": "    min_workers: 0\n    resources: {CPU: 1}\n",
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
            "Credentials"
        ]
        cloud.profiles[node_type] = (
            f"export AWS_ACCESS_KEY_ID={keys['AccessKeyId']}\n"
            f"export AWS_SECRET_ACCESS_KEY={keys['SecretAccessKey']}\n"
            f"export AWS_SESSION_TOKEN={keys['SessionToken']}\n"
            f"export AWS_ENDPOINT_URL={ENDPOINT} AWS_DEFAULT_REGION={REGION}\n"
        )
        secrets += [keys["SecretAccessKey"], keys["SessionToken"]]
    return secrets


class Life:
    """A cluster's; the methods are called in their order."""

    def __init__(
        self, laptop: Laptop, cluster: Path, cloud: Cloud, hosts: Hosts, secrets: list[str]
    ) -> None:
        self.laptop = laptop
        self.cluster = cluster
        self.cloud = cloud
        self.hosts = hosts
        self.secrets = secrets
        self.bucket = Bucket(cloud.client("s3"))
        self.course = Course()
        self.begun = time.monotonic()
        self.command = (
            "python",
            "-m",
            "study.run",
            "--space",
            "tests/support/spaces/tiny.yaml",
            "--cluster",
            str(cluster),
            "--storage",
            STORAGE,
            "--name",
            NAME,
            "--workers",
            "2",
            "--trials",
            str(NUM_TRIALS),
            "--set",
            f"fixed.schedule.num_epochs={NUM_EPOCHS}",
            "--set",
            "final_seeds=0",
            "--set",
            "pruner=none",
            "--set",
            "fixed.initialization=none",
            "--set",
            "search.method.choice={no_adaptation: {}, dann: {}}",
        )

    def begin(self) -> None:
        """Starts the cluster, tries its doors and submits the study."""
        self.laptop.run("python", "-m", "cluster.check", str(self.cluster))
        self._up()
        self._note("the head is up")
        with self.laptop.tunnel(self.cluster):
            self.course.statuses = {
                "without": status(None),
                "wrong": status("0" * 64),
                "right": status(token_of(self.laptop.home)),
            }
        self._note("the doors were tried")
        self.study = self.laptop.start(*self.command)

    def lose_a_worker(self) -> None:
        """AWS takes one of the two away that the first trial runs on."""
        self.bucket.wait_for_evaluations(FIRST, 2, SECONDS)
        self._note("a trial has two checkpoints")
        self.course.lost_worker = next(iter(self.cloud.instances("worker")))
        before = self._progress(FIRST)
        self.cloud.take_away(self.course.lost_worker)
        self._note("a worker is lost")
        self.course.stranger = join_without_token(self.hosts, self._head()[1])
        self._note("a stranger has tried to join")
        self._note_loss(FIRST, before)
        self._note("the trial has gone on")

    def lose_the_head(self) -> None:
        """While the second trial runs."""
        wait_for(lambda: FIRST in self.bucket.records(), SECONDS, "the first trial's record")
        self._note("the first trial has ended")
        self._look_for_leaks()
        self.bucket.wait_for_evaluations(SECOND, 2, SECONDS)
        self.course.records_before = list(self.bucket.records().values())
        self.before_head_loss = self._progress(SECOND)
        self._note("the next one has two checkpoints")
        self.cloud.take_away(self._head()[0])
        self.laptop.interrupt(self.study)  # it would wait for that head
        assert self.study.returncode == 130

    def resume(self) -> None:
        """A new head; the same command and ``--resume``."""
        self._up()
        self._note("a new head is up")
        self.study = self.laptop.start(*self.command, "--resume")
        self._note_loss(SECOND, self.before_head_loss)
        self._note("that trial has gone on")
        self.course.result = self.laptop.finish(self.study, SECONDS)
        assert self.study.returncode == 0, self.course.result
        self.course.records = list(self.bucket.records().values())
        self._note("the study has ended")

    def end(self) -> None:
        """Looks for leaks and ends the cluster."""
        self._look_for_leaks()
        self.course.at_the_end = self.cloud.instances()
        self.course.lifecycles = lifecycles(self.cloud)
        self.laptop.run("ray", "down", "--yes", str(self.cluster))
        self.cloud.wait_until_empty(SECONDS)
        self.course.launched = dict(self.cloud.launched)
        self._note("the cluster is down")

    def _note(self, event: str) -> None:
        log.info("%3.0f s: %s", time.monotonic() - self.begun, event)

    def _up(self) -> None:
        self.laptop.run("ray", "up", "--yes", "--no-config-cache", str(self.cluster))

    def _head(self) -> tuple[str, str]:
        """Instance and address."""
        ((instance, (_, address)),) = self.cloud.instances("head").items()
        return instance, address

    def _progress(self, trial: str) -> dict[str, Any]:
        """How far a trial is just before something is lost."""
        progress = self.bucket.progress(trial)
        assert progress["evaluation"] + 3 < NUM_EPOCHS, "it has got too far to show what it loses"
        return progress

    def _note_loss(self, trial: str, before: dict[str, Any]) -> None:
        """Waits until a trial has gone on; what was under way when it stopped does not count."""
        after = self.bucket.wait_for_evaluations(trial, before["evaluation"] + 3, SECONDS)
        self.course.losses.append(Loss(before, after))

    def _look_for_leaks(self) -> None:
        """Logs, working directories and homes of the machines, the storage, what was printed."""
        self.hosts.running[self._head()[0]].run(
            f"echo {DECOY} > /tmp/ray/session_latest/logs/decoy; sleep 1"
        )
        for name in set(self.cloud.launched) & set(self.hosts.running):
            self.course.leaks += files_with(
                self.secrets,
                self.hosts.written_by(name),
                but=["auth_token", ".bash_profile", "ray_bootstrap_key.pem"],
            )
        self.course.leaks += [
            key
            for key in self.bucket.keys()  # noqa: SIM118 - a bucket is no mapping
            if any(secret.encode() in (self.bucket.read(key) or b"") for secret in self.secrets)
        ]
        self.course.leaks += [
            text[:60]
            for text in self.laptop.said
            if any(secret in text for secret in self.secrets)
        ]


def join_without_token(hosts: Hosts, head: str) -> "subprocess.CompletedProcess[str]":
    """A machine in the same network tries to become a node."""
    stranger = hosts.create("stranger", f"{PREFIX}.250")
    stranger.run("mkdir -p ~/.ray; echo 0123456789abcdef > ~/.ray/auth_token")
    done = stranger.run(f"RAY_AUTH_MODE=token timeout 60 ray start --address={head}:6379")
    hosts.destroy("stranger")
    return done


def lifecycles(cloud: Cloud) -> dict[str, str | None]:
    """Whether each instance was a spot one."""
    return {
        instance["InstanceId"]: instance.get("InstanceLifecycle")
        for reservation in cloud.client("ec2").describe_instances()["Reservations"]
        for instance in reservation["Instances"]
    }


def test_every_trial_ends_whole(course: Course) -> None:
    assert [(record.id, record.outcome) for record in course.records] == [
        (f"{number:04}", "complete") for number in range(NUM_TRIALS)
    ]
    for record in course.records:
        assert [each.evaluation for each in record.evaluations] == [*range(1, NUM_EPOCHS + 1)]
    assert "no_adaptation" in course.result


def test_a_trial_that_lost_a_worker_says_so(course: Course) -> None:
    assert [record.restarts for record in course.records_before] == [1]


def test_what_was_trained_before_a_loss_is_not_trained_again(course: Course) -> None:
    for loss in course.losses:
        done = loss.before["evaluation"]
        assert done > 0 and loss.before["reports"]
        # With the seconds that they took.
        assert loss.after["reports"][: len(loss.before["reports"])] == loss.before["reports"]
    assert course.records[: len(course.records_before)] == course.records_before


def test_workers_are_spot_machines_that_the_head_started_and_replaced(course: Course) -> None:
    kinds = list(course.launched.values())
    assert kinds.count("head") == 2 and kinds.count("worker") >= 3
    for instance, kind in course.launched.items():
        assert course.lifecycles[instance] == ("spot" if kind == "worker" else None)
    at_the_end = [kind for kind, _ in course.at_the_end.values()]
    assert sorted(at_the_end) == ["head", "worker", "worker"]
    assert course.lost_worker not in course.at_the_end


def test_the_job_interface_wants_the_token(course: Course) -> None:
    assert course.statuses == {"without": 401, "wrong": 403, "right": 200}


def test_a_node_without_the_token_cannot_join(course: Course) -> None:
    assert course.stranger is not None and course.stranger.returncode != 0


def test_secrets_are_nowhere(course: Course) -> None:
    assert {Path(leak).name for leak in course.leaks} == {"decoy"}, course.leaks
    assert set(course.in_process_lists) == {DECOY}, course.in_process_lists
