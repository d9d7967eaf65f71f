"""An object store on this machine, as tests see it."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

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
