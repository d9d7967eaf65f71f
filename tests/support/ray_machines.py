"""What starts machines for Ray's autoscaler: as processes here, each with files of its own.

Ray's own such provider gives them the head's files, and each removes the working directories of
jobs that it finds there.
"""

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider
from ray.autoscaler.tags import (
    NODE_KIND_WORKER,
    STATUS_UP_TO_DATE,
    TAG_RAY_NODE_KIND,
    TAG_RAY_NODE_NAME,
    TAG_RAY_NODE_STATUS,
    TAG_RAY_USER_NODE_TYPE,
)


class Machines(FakeMultiNodeProvider):
    """See above."""

    def _create_node_with_resources_and_labels(
        self,
        node_config: dict[str, Any],
        tags: dict[str, str],
        count: int,
        resources: dict[str, float],
        labels: dict[str, str],
    ) -> None:
        number = next(n for n in itertools.count(1) if _id_of(n) not in self._nodes)
        name, scratch = _id_of(number), Path(os.environ["RAY_TMPDIR"])
        with (scratch / f"machine{number}.log").open("w") as log:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "ray.scripts.scripts",
                    "start",
                    "--block",
                    f"--address={self.provider_config['gcs_address']}",
                    f"--num-cpus={resources['CPU']}",
                    "--object-store-memory=100000000",
                    f"--temp-dir={scratch / f'ray{number}'}",
                    "--disable-usage-stats",
                ],
                env={
                    **os.environ,
                    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": name,
                    "RAY_CLOUD_INSTANCE_ID": name,
                    "RAY_NODE_TYPE_NAME": tags[TAG_RAY_USER_NODE_TYPE],
                },
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._nodes[name] = {
            "process": process,
            "tags": {
                TAG_RAY_NODE_KIND: NODE_KIND_WORKER,
                TAG_RAY_NODE_NAME: name,
                TAG_RAY_NODE_STATUS: STATUS_UP_TO_DATE,
                **tags,
            },
        }

    def terminate_node(self, node_id: str) -> None:
        """Ends its processes, the first of which ends the others."""
        self._nodes.pop(node_id)["process"].terminate()


def _id_of(number: int) -> str:
    return "f" * 51 + f"{number:05}"
