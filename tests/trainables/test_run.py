"""``python -m trainables.run``: reports, reproduction of records, exit codes and messages."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from study.trials.records import RecordFile
from study.trials.running_trial import RunningTrial, make_record
from tests.support.spy_tasks import tiny
from tests.support.trial_runs import run
from trainables.checkpointing.tensors import load_tensors
from trainables.configuration.schema import validate
from trainables.methods import METHODS
from trainables.run import main
from trainables.training.trial import run_trial
from trainables.trial_config import TrialConfig

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("one_thread")


class Command:
    """``python -m trainables.run`` in this process."""

    def __init__(self, folder: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.cache = cache
        self.capsys = capsys

    def __call__(self, *arguments: str, out: str = "out") -> tuple[int, list[str], list[str]]:
        """Exit code, and lines of both outputs."""
        self.capsys.readouterr()
        code = main([*arguments, "--out", str(self.folder / out), "--cache", str(self.cache)])
        said = self.capsys.readouterr()
        return code, said.out.splitlines(), said.err.replace(f"{self.folder}/", "").splitlines()

    def write(self, config: TrialConfig) -> str:
        path = self.folder / "trial.yaml"
        path.write_text(config.to_yaml())
        return str(path)


@pytest.fixture
def command(tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(tmp_path, cache, capsys)


def recorded(config: TrialConfig, folder: Path, cache: Path) -> Path:
    """A study's records with this trial in them, as ``0007``."""
    trial = RunningTrial("0007", "search", config.method.name, config)
    trial.reports = list(run_trial(config, folder / "recorded", cache))
    file = RecordFile(folder / "records.jsonl")
    file.append(make_record(trial, "complete", None))
    return file.path


def test_the_command_runs_a_trial_and_prints_its_reports(command: Command) -> None:
    code, lines, errors = command("--config", command.write(tiny()))
    assert (code, errors) == (0, [])
    assert [line.split("  ")[0] for line in lines] == ["training epoch 1/2", "training epoch 2/2"]
    assert "source_val/accuracy 0." in lines[0]


def test_the_same_command_again_repeats_what_is_done(
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = command("--config", command.write(tiny()))
    monkeypatch.setattr(METHODS["no_adaptation"], "update", None)
    assert command("--config", command.write(tiny())) == first


@pytest.mark.slow
def test_a_recorded_trial_is_reproduced_bit_for_bit(
    command: Command,
    tmp_path: Path,
    cache: Path,
) -> None:
    config = tiny(method="dann", evaluation={"max_images": 50, "test": True})
    records = recorded(config, tmp_path, cache)
    code, lines, _ = command("--record", str(records), "--trial", "0007")
    content = json.loads(records.read_text())
    count = sum(len(e["metrics"]) for e in content["evaluations"]) + len(content["test"])
    assert len(content["test"]) == 12
    assert (code, lines[-1]) == (0, f"All {count} numbers are bit-equal to the record's.")


@pytest.mark.slow
@pytest.mark.parametrize("part", ["evaluations", "test"])
def test_a_number_that_differs_is_shown(
    command: Command,
    tmp_path: Path,
    cache: Path,
    part: str,
) -> None:
    records = recorded(tiny(evaluation={"max_images": 50, "test": True}), tmp_path, cache)
    content = json.loads(records.read_text())
    metrics = content["test"] if part == "test" else content["evaluations"][1]["metrics"]
    name = "target_test/accuracy" if part == "test" else "loss/classification"
    metrics[name] += 0.25
    records.write_text(json.dumps(content) + "\n")
    code, lines, _ = command("--record", str(records), "--trial", "0007")
    phase = "test" if part == "test" else "training"
    assert code == 0 and lines[-1].startswith(
        f"Largest difference from the record: 0.25 ({phase} evaluation 2, {name}), among "
    )


def test_a_record_that_is_being_written_does_not_hinder(
    command: Command,
    tmp_path: Path,
    cache: Path,
) -> None:
    records = recorded(tiny(), tmp_path, cache)
    records.write_bytes(records.read_bytes() + b'{"id": "00')
    assert command("--record", str(records), "--trial", "0007")[0] == 0


def test_a_trial_that_fails_ends_with_code_1(command: Command) -> None:
    config = tiny(optimizer={"algorithm": "sgd", "learning_rate": 1e20})
    code, _, errors = command("--config", command.write(config))
    assert code == 1
    assert len(errors) == 1 and errors[0].startswith("The trial failed: loss 'classification' is")


def test_an_interrupted_trial_ends_with_code_130(
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(METHODS["no_adaptation"], "update", interrupt)
    assert command("--config", command.write(tiny()))[::2] == (
        130,
        ["Interrupted; the same command continues from the last evaluation."],
    )


def bad(command: Command, *arguments: str, out: str = "out") -> str:
    code, lines, errors = command(*arguments, out=out)
    assert (code, lines, len(errors)) == (2, [], 1)
    return errors[0]


def test_bad_trial_files(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "trial.yaml"
    assert bad(command, "--config", str(path)) == "trial.yaml: No such file or directory."
    for text, line in (
        ("task: [\n", "not YAML: "),
        ("", "must hold a trial's settings"),
        ("task: digit\n", "task: unknown task 'digit'. Did you mean 'digits'?"),
        ("task: digits\nseed: 1.5\n", "seed: must be a valid integer, got 1.5."),
    ):
        path.write_text(text)
        assert bad(command, "--config", str(path)).startswith(f"trial.yaml: {line}")
    assert not (tmp_path / "out").exists()


def test_bad_records(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    given = ("--record", str(path), "--trial", "0003")
    assert bad(command, "--record", str(path)) == "--record needs --trial ID."
    assert bad(command, *given) == "records.jsonl: No such file or directory."
    for text in ("{\n", "3\n", "{}\n", '{"id": "0003"}\n'):
        path.write_text(text)
        assert bad(command, *given).startswith(
            "records.jsonl: must be a study's records.jsonl, and is not ("
        )
    path.write_text('{"id": "0001", "config": {}, "evaluations": [], "test": {}}\n')
    assert bad(command, *given) == "records.jsonl: no trial '0003'. It has: 0001."


def test_bad_data(command: Command, tmp_path: Path) -> None:
    config = validate(
        TrialConfig,
        {"task": {"folders": {"source": str(tmp_path / "nowhere"), "target": str(tmp_path)}}},
    )
    assert (
        bad(command, "--config", command.write(config))
        == "source: must be a folder, got nowhere, which does not exist."
    )


def test_another_number_of_workers(command: Command) -> None:
    config = tiny(resources={"workers": 2})
    assert bad(command, "--config", command.write(config)) == (
        "resources/workers: must be the number of processes, 1, got 2. Start the trial by: "
        "torchrun --nproc-per-node 2 -m trainables.run …"
    )


def test_a_gpu_that_is_not_there(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = tiny(resources={"gpus_per_worker": 1.0})
    assert (
        bad(command, "--config", command.write(config))
        == "resources/gpus_per_worker: must be 0 on a machine without a GPU, got 1."
    )


def test_a_folder_that_cannot_be_written(command: Command, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    assert (
        bad(command, "--config", command.write(tiny()), out="taken")
        == "taken: cannot be written to (File exists)."
    )


@pytest.mark.slow
def test_two_workers_under_torchrun_train_one_trial(tmp_path: Path, cache: Path) -> None:
    config = tiny(
        method="dann", resources={"workers": 2}, evaluation={"max_images": 51, "test": True}
    )
    (tmp_path / "trial.yaml").write_text(config.to_yaml())
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            "2",
            "-m",
            "trainables.run",
            "--config",
            str(tmp_path / "trial.yaml"),
            "--out",
            str(tmp_path / "out"),
            "--cache",
            str(cache),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert [line.split("  ")[0] for line in done.stdout.splitlines()] == [
        "training epoch 1/2",
        "training epoch 2/2",
        "test epoch 2/2",
    ]
    state = load_tensors(tmp_path / "out" / "latest.pt")
    (alone, _) = run(tiny(method="dann", evaluation={"max_images": 51}), tmp_path / "one", cache)
    shared = state["progress"]["reports"][0]["metrics"]
    assert set(alone.metrics) == set(shared)
    # batch statistics are each worker's own, so the first epoch agrees only roughly
    assert shared["loss/classification"] == pytest.approx(
        alone.metrics["loss/classification"], rel=0.2
    )
