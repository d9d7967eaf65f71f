"""A Ray cluster on this machine that begins with a head without CPUs and grows with its work."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ray.util import get_node_ip_address

from tests.cluster.files import ROOT
from tests.support.studies import DEADLINE_SECONDS

HEAD_ID = "f" * 51 + "00000"
"""By which the provider of machines knows the head."""

RAY = (sys.executable, "-m", "ray.scripts.scripts")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answer_of(url: str, token: str | None) -> int | None:
    """The status with which a job server answers; ``None`` if it does not."""
    request = urllib.request.Request(url)
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


@dataclass
class RayHead:
    """``ray start --head`` with an autoscaler whose machines are processes on this one.

    Every machine asks for the token. Nothing of it is left afterwards, and no other Ray touched.
    """

    max_workers: int = 2
    scratch: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="s2r-")))
    gcs: int = field(default_factory=free_port)
    dashboard: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.token = self.scratch / "token"
        self.token.write_text(secrets.token_hex(32))
        config = self.scratch / "autoscaling.json"
        config.write_text(
            json.dumps(
                {
                    "cluster_name": "test",
                    "max_workers": self.max_workers,
                    "idle_timeout_minutes": 30,
                    "provider": {
                        "type": "external",
                        "module": "tests.support.ray_machines.Machines",
                        "gcs_address": self.address,
                        "head_node_id": HEAD_ID,
                        "launch_multiple": True,
                    },
                    "head_node_type": "ray.head.default",
                    "available_node_types": {
                        "ray.head.default": {
                            "resources": {"CPU": 0, "trial_slot": 2},
                            "node_config": {},
                            "max_workers": 0,
                        },
                        "worker": {
                            "resources": {"CPU": 1},
                            "node_config": {},
                            "min_workers": 0,
                            "max_workers": self.max_workers,
                        },
                    },
                    "upscaling_speed": 1.0,
                    "auth": {},
                    "file_mounts": {},
                    "cluster_synced_files": [],
                    "file_mounts_sync_continuously": False,
                    "initialization_commands": [],
                    "setup_commands": [],
                    "head_setup_commands": [],
                    "worker_setup_commands": [],
                    "head_start_ray_commands": [],
                    "worker_start_ray_commands": [],
                }
            )
        )
        with (self.scratch / "head.log").open("w") as log:
            self.process = subprocess.Popen(
                [
                    *RAY,
                    "start",
                    "--head",
                    "--block",
                    f"--port={self.gcs}",
                    f"--dashboard-port={self.dashboard}",
                    "--num-cpus=0",
                    '--resources={"trial_slot": 2}',
                    "--object-store-memory=100000000",
                    f"--temp-dir={self.scratch / 'ray'}",
                    f"--autoscaling-config={config}",
                    "--disable-usage-stats",
                ],
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + DEADLINE_SECONDS
        while self.status(self.token.read_text()) != 200:
            assert self.process.poll() is None, (self.scratch / "head.log").read_text()
            assert time.monotonic() < deadline, "no job server"
            time.sleep(0.1)

    @property
    def address(self) -> str:
        """What machines join it by."""
        return f"{get_node_ip_address()}:{self.gcs}"

    @property
    def jobs(self) -> str:
        """Its job server."""
        return f"http://127.0.0.1:{self.dashboard}"

    @property
    def client_environment(self) -> dict[str, str]:
        """Of whoever may use it."""
        return {
            **os.environ,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token),
            "RAY_TMPDIR": str(self.scratch),
            "RAY_worker_niceness": "0",
        }

    @property
    def environment(self) -> dict[str, str]:
        """Of the head itself."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return {
            **self.client_environment,
            "PATH": path,
            "PYTHONPATH": str(ROOT),
            "RAY_FAKE_CLUSTER": "1",
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_enable_autoscaler_v2": "1",
            "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
        }

    def status(self, token: str | None, path: str = "/api/jobs/") -> int | None:
        """How the job server answers; ``None`` if it does not."""
        return answer_of(f"{self.jobs}{path}", token)

    def processes(self) -> list[str]:
        """What its processes are called."""
        return [
            (process / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            for process in self._processes()
        ]

    def close(self) -> None:
        """Ends all of its processes."""
        for process in self._processes():
            with suppress(ProcessLookupError):
                os.kill(int(process.name), signal.SIGKILL)
        self.process.wait()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def _processes(self) -> Iterator[Path]:
        """They are a session of their own."""
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                session = (process / "stat").read_text().rpartition(")")[2].split()[3]
                if int(session) == self.process.pid:
                    yield process
