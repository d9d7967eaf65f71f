"""An object store on this machine, as tests see it."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from study.storage import lease as leases
from study.storage.study_folder import StudyFolder
from trainables.checkpointing import object_store as stores
from trainables.checkpointing.object_store import Store

BUCKET = "studies"
REGION = "us-east-1"


@dataclass
class Bucket:
    """moto's S3, with one bucket, and what it was asked for."""

    endpoint: str
    requests: list[tuple[str, str]] = field(default_factory=list)
    """Method and path with query of each."""
    broken: bool = False
    """Whether it refuses everything."""

    def client(self) -> Any:
        return boto3.client("s3", endpoint_url=self.endpoint)

    def keys(self, prefix: str = "") -> list[str]:
        """The names of the objects, those of folders left out."""
        found = self.client().list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
        return [item["Key"] for item in found if not item["Key"].endswith("/")]

    def content(self, key: str) -> bytes:
        return bytes(self.client().get_object(Bucket=BUCKET, Key=key)["Body"].read())

    def wrap(
        self, app: Callable[[dict[str, Any], Any], Iterable[bytes]]
    ) -> Callable[[dict[str, Any], Any], Iterable[bytes]]:
        def answer(request: dict[str, Any], start: Any) -> Iterable[bytes]:
            self.requests.append(
                (request["REQUEST_METHOD"], f"{request['PATH_INFO']}?{request['QUERY_STRING']}")
            )
            if self.broken:
                start("403 Forbidden", [("Content-Length", "0")])
                return [b""]
            return app(request, start)

        return answer


@contextmanager
def running_bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """A store for this process and those that it starts."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    bucket = Bucket(f"http://{host}:{port}")
    for name, value in {
        "AWS_ENDPOINT_URL": bucket.endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
    }.items():
        monkeypatch.setenv(name, value)
    bucket.client().create_bucket(Bucket=BUCKET)
    assert server._server is not None
    server._server.app = bucket.wrap(server._server.app)
    try:
        yield bucket
    finally:
        server.stop()


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with pytest.MonkeyPatch.context() as patch, running_bucket(patch) as bucket:
        yield bucket


@pytest.fixture
def store(bucket: Bucket, request: pytest.FixtureRequest) -> Iterator[Store]:
    """A folder in the bucket for this test alone."""
    bucket.requests.clear()
    yield Store.open(f"s3://{BUCKET}/{request.node.name}")
    bucket.broken = False


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for hundredths of a second wherever seconds are meant."""
    monkeypatch.setattr(leases, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(leases, "SETTLE_SECONDS", 0.01)
    monkeypatch.setattr(stores, "PAUSES_SECONDS", (0.01,))


def study_in(store: Store, out: Path) -> StudyFolder:
    study_folder = StudyFolder(out / store.name, store)
    study_folder.root.mkdir(parents=True)
    return study_folder
