"""onprem.yaml on three machines, from ``ray up`` to ``ray down``."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.files import filled
from tests.cluster_e2e.hosts import PREFIX, Hosts, run
from tests.cluster_e2e.laptop import SECONDS, Laptop, outcome_of, status
from tests.cluster_e2e.leaks import ProcessList, files_with, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600)]

ADDRESSES = {f"host{number}": f"{PREFIX}.{number}" for number in (11, 12, 13)}


@dataclass
class Course:
    """What was seen of one cluster."""

    outcome: dict[str, Any] = field(default_factory=dict)
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
    """Starts the cluster, runs a job on it, ends it."""
    key = laptop.home / ".ssh" / "syn2real"
    key.parent.mkdir(parents=True)
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
    laptop.run("sh", "-c", "ray get-auth-token --generate > /dev/null; chmod 600 ~/.ray/*")
    token = (laptop.home / ".ray" / "auth_token").read_text().strip()
    cluster = folder / "onprem.yaml"
    head, *workers = ADDRESSES.values()
    cluster.write_text(without_container(filled(
        "onprem.yaml", head_ip=head, worker_ips=", ".join(workers), ssh_user="root"), laptop.home))
    course = Course()
    with Hosts(folder, key.with_suffix(".pub")) as hosts, ProcessList([token]) as processes:
        for name, address in ADDRESSES.items():
            hosts.create(name, address)
        laptop.run("python", "-m", "cluster.check", str(cluster))
        laptop.run("ray", "up", "--yes", "--no-config-cache", str(cluster))
        with laptop.tunnel(cluster):
            course.statuses = {"without": status(None), "right": status(token)}
            storage = folder / "shared"
            course.outcome = outcome_of(laptop.finish(laptop.submit(
                "python", "-m", "tests.cluster_e2e.job", "--storage", str(storage),
                "--trials", "3", "--epochs", "3", "--cpus", "1", "--nodes", "3")))
        course.leaks = files_with([token], [
            path for name in ADDRESSES for path in hosts.written_by(name)], but=["auth_token"])
        course.leaks += [text[:60] for text in laptop.said if token in text]
        assert of_ray(hosts)
        laptop.run("ray", "down", "--yes", str(cluster))
        # Workers end when they have missed the head for a minute.
        wait_for(lambda: not of_ray(hosts), SECONDS, "the end of Ray's processes")
        course.in_process_lists = processes.found
    return course


def without_container(text: str, home: Path) -> str:
    """The file with the sizes of these machines."""
    head, container = text.split("\ndocker:\n")
    text = f"{head}\n{container[container.index('# The token that'):]}"
    assert text.count("--disable-usage-stats") == 2 and text.count("~/.ssh/") == 1
    text = text.replace("~/.ssh/", f"{home}/.ssh/")  # ssh does not take ~ from HOME
    return text.replace("--disable-usage-stats", "--disable-usage-stats --num-cpus=1 "
                        "--object-store-memory=150000000")


def of_ray(hosts: Hosts) -> list[str]:
    """Ray's processes on all machines."""
    return [line for host in hosts.running.values()
            for line in host.run("ps -eo args").stdout.splitlines()
            if "raylet" in line or "gcs_server" in line]


def test_trials_run_on_all_machines(course: Course) -> None:
    assert course.outcome["errors"] == 0 and course.outcome["nodes"] == sorted(ADDRESSES)
    assert all(trial["finished"] for trial in course.outcome["trials"])
    assert {trial["host"] for trial in course.outcome["trials"]} == set(ADDRESSES)


def test_the_job_interface_wants_the_token(course: Course) -> None:
    assert course.statuses == {"without": 401, "right": 200}


def test_the_token_is_nowhere_but_in_its_file(course: Course) -> None:
    assert course.leaks == [] and course.in_process_lists == {}
