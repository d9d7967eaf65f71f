"""onprem.yaml on three machines, from ``ray up`` to ``ray down``: a study on a shared folder."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from study.trials.records import TrialRecord, read_records
from tests.cluster.files import filled
from tests.cluster_e2e.hosts import PREFIX, Hosts, run
from tests.cluster_e2e.laptop import SECONDS, Laptop, status
from tests.cluster_e2e.leaks import ProcessList, files_with, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600)]

ADDRESSES = {f"host{number}": f"{PREFIX}.{number}" for number in (11, 12, 13)}
NUM_TRIALS = 3
"""As many as find room at a time."""


@dataclass
class Course:
    """What was seen of one cluster."""

    records: list[TrialRecord] = field(default_factory=list)
    took_trials: list[str] = field(default_factory=list)
    """The machines in whose logs a trial's process is."""
    statuses: dict[str, int | None] = field(default_factory=dict)
    leaks: list[str] = field(default_factory=list)
    in_process_lists: dict[str, str] = field(default_factory=dict)


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Course]:
    """A cluster's life."""
    folder = tmp_path_factory.mktemp("ssh")
    with Laptop(folder / "home", {"RAY_UP_enable_autoscaler_v2": "0"}) as laptop:
        yield live(folder, laptop)


def live(folder: Path, laptop: Laptop) -> Course:
    """Starts the cluster, runs a study on it, ends it."""
    key = laptop.home / ".ssh" / "syn2real"
    key.parent.mkdir(parents=True)
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
    laptop.run("sh", "-c", "ray get-auth-token --generate > /dev/null; chmod 600 ~/.ray/*")
    token = (laptop.home / ".ray" / "auth_token").read_text().strip()
    secrets = [token, key.read_text().splitlines()[-2]]
    cluster, storage, course = folder / "onprem.yaml", folder / "shared", Course()
    head, *workers = ADDRESSES.values()
    cluster.write_text(
        without_container(
            filled("onprem.yaml", head_ip=head, worker_ips=", ".join(workers), ssh_user="root"),
            laptop.home,
        )
    )
    with Hosts(folder, key.with_suffix(".pub")) as hosts, ProcessList(secrets) as processes:
        for name, address in ADDRESSES.items():
            hosts.create(name, address)
        laptop.run("python", "-m", "cluster.check", str(cluster))
        laptop.run("ray", "up", "--yes", "--no-config-cache", str(cluster))
        with laptop.tunnel(cluster):
            course.statuses = {"without": status(None), "right": status(token)}
        laptop.run(
            "python",
            "-m",
            "study.run",
            "--space",
            "tests/support/spaces/tiny.yaml",
            "--cluster",
            str(cluster),
            "--storage",
            str(storage),
            "--name",
            "study",
            "--trials",
            str(NUM_TRIALS),
            "--set",
            "final_seeds=0",
            "--set",
            "fixed.initialization=none",
            "--set",
            "concurrency=auto",
        )
        course.records = read_records(storage / "study" / "records.jsonl")
        course.took_trials = [name for name in ADDRESSES if took_trial(hosts, name)]
        course.leaks = files_with(
            secrets,
            [storage, *(path for name in ADDRESSES for path in hosts.written_by(name))],
            but=["auth_token", "ray_bootstrap_key.pem"],
        )
        course.leaks += [text[:60] for text in laptop.said if any(s in text for s in secrets)]
        assert of_ray(hosts)
        laptop.run("ray", "down", "--yes", str(cluster))
        # Workers end when they have missed the head for a minute.
        wait_for(lambda: not of_ray(hosts), SECONDS, "the end of Ray's processes")
        course.in_process_lists = processes.found
    return course


def took_trial(hosts: Hosts, name: str) -> bool:
    """Whether a trial ran on a machine, by its logs."""
    sessions = hosts.running[name].files("/tmp/ray")  # Ray's link to the latest one leads outside
    return any(
        "TrialTrainable" in path.read_text()
        for path in sessions.glob("session_2*/logs/worker-*.out")
    )


def without_container(text: str, home: Path) -> str:
    """The file with the sizes of these machines."""
    head, container = text.split("\ndocker:\n")
    text = f"{head}\n{container[container.index('# The token that') :]}"
    assert text.count("--disable-usage-stats") == 2 and text.count("~/.ssh/") == 1
    text = text.replace("~/.ssh/", f"{home}/.ssh/")  # ssh does not take ~ from HOME
    return text.replace(
        "--disable-usage-stats",
        "--disable-usage-stats --num-cpus=1 --object-store-memory=150000000",
    )


def of_ray(hosts: Hosts) -> list[str]:
    """Ray's processes on all machines."""
    return [
        line
        for host in hosts.running.values()
        for line in host.run("ps -eo args").stdout.splitlines()
        if "raylet" in line or "gcs_server" in line
    ]


def test_every_trial_ends_whole(course: Course) -> None:
    assert sorted(record.id for record in course.records) == ["0000", "0001", "0002"]
    assert {record.outcome for record in course.records} <= {"complete", "pruned"}


def test_every_machine_takes_trials(course: Course) -> None:
    assert course.took_trials == list(ADDRESSES)


def test_the_job_interface_wants_the_token(course: Course) -> None:
    assert course.statuses == {"without": 401, "right": 200}


def test_secrets_are_nowhere_but_in_their_files(course: Course) -> None:
    assert course.leaks == [] and course.in_process_lists == {}
