"""Runs the tiny study on a cluster of two workers, one of which is lost and replaced.

``python -m tests.cluster.losing_a_node FOLDER WORKERS`` prints what became of it as JSON.
"""

import study.execution.ray_settings  # noqa: F401 - before Ray

# isort: split
import json
import logging
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

import ray
from ray.cluster_utils import Cluster

from study.config.reading import read_study
from study.execution.interruption import GracefulShutdown
from study.execution.tuner import run
from study.session.session import Session
from study.storage.study_folder import StudyFolder
from tests.support.studies import TINY
from trainables.checkpointing.tensors import load_tensors
from trainables.trial_config import ResourcesConfig

DEADLINE_SECONDS = 240.0
NUM_EPOCHS = 12


@dataclass
class Loss:
    """Takes a worker away once every trial under way has a checkpoint, and brings another."""

    cluster: Cluster
    session: Session
    cpus: int
    before: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What the trials had done by then."""
    after: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What each had done when it had evaluated once more."""

    def happen(self) -> None:
        """Waits for the moment, and for the trials to go on."""
        trials = self.session.live
        self._wait_for(lambda: trials and all(map(self._progress, trials)))
        self.before = {trial: self._progress(trial) for trial in list(trials)}
        lost = next(iter(self.cluster.worker_nodes))
        self.cluster.remove_node(lost, allow_graceful=False)
        self.cluster.add_node(num_cpus=self.cpus)
        self._wait_for(self._have_all_gone_on)

    def _have_all_gone_on(self) -> bool:
        for trial, before in self.before.items():
            now = self._progress(trial)
            if trial not in self.after and now.get("evaluation", 0) > before["evaluation"]:
                self.after[trial] = now
        return self.after.keys() == self.before.keys()

    def _progress(self, trial: str) -> dict[str, Any]:
        path = self.session.study_folder.trial(trial) / "latest.pt"
        progress: dict[str, Any] = load_tensors(path)["progress"] if path.exists() else {}
        return progress

    def _wait_for(self, what: Any) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not what():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.02)


def main(folder: Path, workers: int) -> None:
    """Runs the study."""
    trials = 2 if workers == 1 else 1
    settings, space = read_study(
        str(TINY),
        [
            f"num_trials={trials}",
            "final_seeds=0",
            "pruner=none",
            "search.method.choice={dann: {}}",
            f"fixed.schedule.num_epochs={NUM_EPOCHS}",
            f"fixed.resources.workers={workers}",
            "fixed.initialization=none",
        ],
    )
    study_folder = StudyFolder(folder / "tiny")
    study_folder.root.mkdir(parents=True)
    session = Session(settings, space, study_folder)
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 0,
            "resources": {"head": 1, "trial_slot": 2},
            "include_dashboard": False,
        },
    )
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, logging_level=logging.ERROR, log_to_driver=False)
    loss = Loss(cluster, session, cpus=1)
    whole = Thread(
        daemon=True,
        target=run,
        args=(
            session,
            ResourcesConfig(workers=workers),
            trials,
            folder / "cache",
            folder / "scratch",
            GracefulShutdown(),
        ),
    )
    whole.start()
    loss.happen()  # here, since Ray takes signals over wherever a node is started
    whole.join(DEADLINE_SECONDS)
    assert not whole.is_alive()
    ray.shutdown()
    cluster.shutdown()
    print(
        json.dumps(
            {
                "epochs": NUM_EPOCHS,
                "records": [record.model_dump(mode="json") for record in session.records],
                "before": loss.before,
                "after": loss.after,
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
