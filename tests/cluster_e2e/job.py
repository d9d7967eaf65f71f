"""A Ray job: trials of the project's own trainable, their checkpoints in the cluster's storage.

``python -m tests.cluster_e2e.job --storage s3://bucket/runs`` prints one JSON line at the end.
"""

import study.quiet  # noqa: F401, I100 - before Ray
import argparse
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import ray
from ray import tune

from study.config import read_study
from study.tuner import send_no_keys
from tests.studies import TINY
from trainables.checkpoint import TrialFolder, load_tensors
from trainables.ray_trainable import Assignment, TrialTrainable, report_of

LOCAL = Path.home() / "trials"
"""On each machine's own disk: what is found on another came through the storage."""


class StoredTrial(TrialTrainable):
    """A trial whose folder goes with Tune's checkpoints."""

    resumed_at = 0
    """The evaluation from which it went on."""

    def setup(self, config: dict[str, Assignment]) -> None:  # type: ignore[override]
        """Starts from an empty folder."""
        super().setup(config["assignment"])
        shutil.rmtree(self.folder, ignore_errors=True)

    def step(self) -> dict[str, Any]:
        """Runs to the next report."""
        result = super().step()
        return {**result, "host": os.uname().nodename, "resumed_at": self.resumed_at}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Copies what the trial needs to go on."""
        files = TrialFolder(self.folder)
        for path in (files.latest, files.best):
            shutil.copy2(path, checkpoint_dir)

    def load_checkpoint(self, checkpoint: str) -> None:  # type: ignore[override]
        """Puts it back, on whichever machine this is."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in Path(checkpoint).glob("*.pt"):
            shutil.copy2(path, self.folder)
        self.resumed_at = load_tensors(TrialFolder(self.folder).latest)["progress"]["evaluation"]


def main() -> None:
    """Runs the trials."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--storage", required=True)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--cpus", type=int, default=4)
    parser.add_argument("--nodes", type=int, default=1, help="that there must be at the start")
    options = parser.parse_args()
    ray.init(address="auto")
    while sum(node["Alive"] for node in ray.nodes()) < options.nodes:
        time.sleep(0.2)
    _, space = read_study(str(TINY), [
        f"fixed.schedule.num_epochs={options.epochs}", "fixed.initialization=none"])
    send_no_keys()
    config = next(space.probe_configs()).model_dump(mode="json")
    assignments = [dict(Assignment(
        id=f"{number:04}", attempt=0, trial={**config, "seed": number},
        folder=str(LOCAL / f"{number:04}"), cache=str(LOCAL / "cache"),
        scratch=str(LOCAL / "scratch"))) for number in range(options.trials)]
    results = tune.Tuner(
        tune.with_resources(StoredTrial, {"CPU": options.cpus}),
        param_space={"assignment": tune.grid_search(assignments)},
        run_config=tune.RunConfig(
            name="study", storage_path=options.storage, verbose=0,
            failure_config=tune.FailureConfig(max_failures=3),
            checkpoint_config=tune.CheckpointConfig(
                checkpoint_frequency=1, checkpoint_at_end=False, num_to_keep=2))).fit()
    print("OUTCOME " + json.dumps({
        "errors": len(results.errors),
        "nodes": sorted(node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]),
        "trials": [_summary(results[i]) for i in range(len(results))]}), flush=True)


def _summary(result: tune.Result) -> dict[str, Any]:
    metrics = result.metrics or {}
    report = report_of(metrics)
    return {"evaluations": report.evaluation if report else 0,
            "finished": bool(report and report.finished), "failed": metrics.get("failed"),
            "resumed_at": metrics.get("resumed_at"), "host": metrics.get("host")}


if __name__ == "__main__":
    main()
