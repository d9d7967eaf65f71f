"""``python -m study.run`` from start to end, with a driver in the place of Ray."""

import json
import logging
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import optuna
import pytest
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from study.analysis.comparison import compare
from study.execution.launch import run_study
from study.execution.tuner import PendingMonitor
from study.reporting.summary import as_json
from study.run import main
from study.session.session import Session
from study.trials.records import read_records
from tests.support.fake_trials import STUDY, Driver
from tests.support.spy_tasks import SMALL, tiny
from trainables.training.domains import open_domains


class FakeTuner(ModuleType):
    """Runs trials by formula, up to a number of events; also stands for what starts Ray."""

    def __init__(self) -> None:
        super().__init__("study.execution.tuner")
        self.limit: int | None = None
        self.limits: list[int | None] = []
        self.checkpoints: dict[Path, dict[str, int]] = {}
        self.starts = 0
        self.PendingMonitor = PendingMonitor

    @contextmanager
    def own_ray(self, num_cpus: int, num_slots: int) -> Iterator[Callable[[], None]]:
        """Counts how often Ray would have been waited for."""

        def wait() -> None:
            self.starts += 1

        yield wait

    def run(self, session: Session, *others: Any) -> None:
        """Runs the session, up to the next of ``limits`` or else ``limit``."""
        limit = self.limits.pop(0) if self.limits else self.limit
        checkpoints = self.checkpoints.setdefault(session.study_folder.root, {})
        for _ in islice(Driver(session, checkpoints).events(), limit):
            logging.getLogger("a.library").info("a word of a library's")


class Place:
    """A folder of studies whose pictures are rendered already, and the command."""

    def __init__(self, folder: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.out = folder / "out"
        self.space = folder / "formula.yaml"
        self.capsys = capsys
        (self.out / "cache").mkdir(parents=True)
        self.write(final_seeds=1)
        open_domains(tiny(), cache)
        for path in cache.glob("*.npy"):
            (self.out / "cache" / path.name).symlink_to(path)

    def write(self, **changes: object) -> None:
        self.space.write_text(
            yaml.safe_dump({**STUDY, "task": {"digits": dict(SMALL)}, **changes}, sort_keys=False)
        )

    def run(self, *arguments: str) -> tuple[int, str, str]:
        self.capsys.readouterr()
        code = main(["--space", str(self.space), "--out", str(self.out), *arguments])
        said = self.capsys.readouterr()
        return code, said.out, said.err

    @property
    def folder(self) -> Path:
        return self.out / "formula"


@pytest.fixture
def tuner(monkeypatch: pytest.MonkeyPatch) -> FakeTuner:
    tuner = FakeTuner()
    for module in ("study.execution.tuner", "study.execution.local_ray"):
        monkeypatch.setitem(sys.modules, module, tuner)
    monkeypatch.setenv("COLUMNS", "80")
    return tuner


@pytest.fixture
def place(tmp_path: Path, digits_cache: Path, capsys: pytest.CaptureFixture[str]) -> Place:
    return Place(tmp_path, digits_cache, capsys)


def test_a_study_ends_with_its_table_and_where_its_files_are(
    place: Place,
    tuner: FakeTuner,
) -> None:
    code, said, errors = place.run()
    assert (code, errors) == (0, "")
    assert "Final runs on 1 fresh seeds" in said and "Winners' settings" in said
    assert "selected by bnm, which reads no target label" in said
    assert f"Records, TensorBoard events and checkpoints are in {place.folder}\n" in said
    assert f"the full log is {place.folder}/study.log." in said
    assert "Interrupted" not in said


def test_a_study_s_folder_is_complete(place: Place, tuner: FakeTuner) -> None:
    place.run()
    names = {path.name for path in place.folder.iterdir() if not path.name.startswith(".")}
    assert names >= {
        "study.yaml",
        "environment.json",
        "optuna.journal",
        "records.jsonl",
        "tensorboard",
        "study.log",
        "result.json",
    }
    storage = JournalStorage(JournalFileBackend(str(place.folder / "optuna.journal")))
    assert len(optuna.load_study(study_name="formula", storage=storage).trials) == 10


def test_the_result_is_the_records_comparison(place: Place, tuner: FakeTuner) -> None:
    place.run()
    records = read_records(place.folder / "records.jsonl")
    expected = json.loads(json.dumps(as_json(compare(records, "bnm", False))))
    assert json.loads((place.folder / "result.json").read_text()) == expected


def test_what_libraries_say_goes_to_the_log(place: Place, tuner: FakeTuner) -> None:
    before = logging.getLogger().handlers[:]
    _, said, errors = place.run()
    assert "a word of a library's" in (place.folder / "study.log").read_text()
    assert "a word of a library's" not in said + errors
    assert logging.getLogger().handlers == before


@pytest.mark.slow
def test_an_oracle_s_study_says_so(place: Place, tuner: FakeTuner) -> None:
    place.write(criterion="oracle")
    code, said, _ = place.run()
    assert code == 0 and "an ORACLE that reads target labels" in " ".join(said.split())


@pytest.mark.slow
def test_an_interrupted_study_prints_the_command_that_goes_on(
    place: Place,
    tuner: FakeTuner,
) -> None:
    whole = Place(place.out.parent / "whole", place.out / "cache", place.capsys)
    whole.run("--trials", "8", "--set", "final_seeds=2")
    tuner.limit, tuner.checkpoints = 12, {}
    code, said, _ = place.run("--trials", "8", "--set", "final_seeds=2")
    assert code == 130
    lines = said.splitlines()
    command = shlex.split(lines[lines.index("Interrupted. To resume:") + 1])
    assert command[1:3] == ["-m", "study.run"]
    tuner.limit = None
    place.capsys.readouterr()
    assert main(command[3:]) == 0
    records = [read_records(each.folder / "records.jsonl") for each in (whole, place)]
    assert len(records[0]) == 12
    assert [(r.id, r.identity, r.outcome) for r in records[0]] == [
        (r.id, r.identity, r.outcome) for r in records[1]
    ]


@pytest.mark.slow
def test_a_finished_study_shows_its_result_again_without_ray(
    place: Place,
    tuner: FakeTuner,
) -> None:
    _, first, _ = place.run()
    code, again, errors = place.run("--resume")
    assert (code, errors) == (0, "") and first.endswith(again)
    assert again.startswith("Final runs on 1 fresh seeds")
    assert tuner.starts == 1


def test_a_study_all_of_whose_trials_fail_ends_with_code_1(
    place: Place,
    tuner: FakeTuner,
) -> None:
    place.write(num_trials=2, search={"optimizer": {"learning_rate": {"uniform": [1.0, 2.0]}}})
    code, _, errors = place.run()
    assert code == 1
    assert errors == (
        "The study failed: all 2 trials failed; the first: TrialError: loss "
        "'classification' is nan by step 62.\n"
    )


@pytest.mark.slow
def test_a_second_study_of_a_space_has_a_folder_of_its_own(
    place: Place,
    tuner: FakeTuner,
) -> None:
    place.run()
    place.run()
    assert (place.out / "formula-2" / "result.json").exists()


def test_the_folder_takes_the_given_name(place: Place, tuner: FakeTuner) -> None:
    place.run("--name", "mine")
    assert (place.out / "mine" / "result.json").exists() and not place.folder.exists()


def test_the_same_from_python(place: Place, tuner: FakeTuner) -> None:
    result = run_study(place.space, out=place.out, overrides=["num_trials=4"])
    assert result.folder == place.folder and not result.interrupted
    assert {row.name for row in result.comparison.rows} == {"no_adaptation", "dann"}
    assert sum(sum(row.outcomes.values()) for row in result.comparison.rows) == 4


def test_from_python_an_interruption_is_told(place: Place, tuner: FakeTuner) -> None:
    tuner.limit = 3
    assert run_study(place.space, out=place.out).interrupted


# Several tasks


TWO = ("digits", "trainables.tasks.digits.digits.Digits")
"""Names of tasks with the same data."""


def of_two_tasks(place: Place) -> list[Path]:
    """The folders of the two studies of what is now the space."""
    place.write(task=None, tasks=[{name: dict(SMALL)} for name in TWO])
    return [place.out / f"formula-{name}" for name in TWO]


@pytest.mark.slow
def test_several_tasks_are_searched_one_after_the_other(place: Place, tuner: FakeTuner) -> None:
    folders = of_two_tasks(place)
    code, said, errors = place.run("--trials", "4")
    assert (code, errors, tuner.starts) == (0, "", 2)
    assert said.index(f"Task 1 of 2: {TWO[0]}") < said.index(f"Task 2 of 2: {TWO[1]}")
    for name, folder in zip(TWO, folders, strict=True):
        assert f"checkpoints are in {folder}\n" in said and f"\n{folder.name}\n" in said
        assert {
            str(next(iter(record.config["task"])))
            for record in read_records(folder / "records.jsonl")
        } == {name}
    table = said[said.rindex("Final runs: mean ± std in %") :]
    assert "no_adaptation" in table and "dann" in table and "digits" in table.split("\n")[2]


@pytest.mark.slow
def test_several_tasks_from_python(place: Place, tuner: FakeTuner) -> None:
    folders = of_two_tasks(place)
    result = run_study(place.space, out=place.out, overrides=["num_trials=4"])
    assert [each.folder for each in (result, *result.others)] == folders
    assert not result.interrupted and result.name == "formula"


@pytest.mark.slow
@pytest.mark.parametrize("limit, begun", [(3, 1), (10, 2)])
def test_an_interrupted_task_goes_on_with_those_after_it(
    place: Place,
    tuner: FakeTuner,
    limit: int,
    begun: int,
) -> None:
    folders = of_two_tasks(place)
    whole = Place(place.out.parent / "whole", place.out / "cache", place.capsys)
    expected = of_two_tasks(whole)
    whole.run("--trials", "4")
    tuner.limits, tuner.checkpoints = [None] * (begun - 1) + [limit], {}
    code, said, _ = place.run("--trials", "4")
    assert code == 130 and [folder.exists() for folder in folders] == [True, begun == 2]
    assert "mean ± std in %" not in said.partition("Interrupted")[0].rpartition("the full log")[2]
    lines = said.splitlines()
    command = shlex.split(lines[lines.index("Interrupted. To resume:") + 1])
    assert main(command[3:]) == 0
    for folder, other in zip(folders, expected, strict=True):
        one, two = (read_records(each / "records.jsonl") for each in (folder, other))
        assert [(r.id, r.identity, r.outcome) for r in one] == [
            (r.id, r.identity, r.outcome) for r in two
        ]


def test_ctrl_c_between_tasks_can_go_on(
    place: Place,
    tuner: FakeTuner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folders = of_two_tasks(place)
    ray, calls = tuner.own_ray, iter((False, True))

    def interrupt(*arguments: Any) -> Any:
        if next(calls):
            raise KeyboardInterrupt
        return ray(*arguments)

    monkeypatch.setattr(tuner, "own_ray", interrupt)
    code, said, _ = place.run("--trials", "4")
    assert code == 130 and "Interrupted. To resume:" in said and "--name formula --resume" in said
    assert [folder.exists() for folder in folders] == [True, False]


def test_ctrl_c_before_the_trials_ends_with_code_130(
    place: Place,
    tuner: FakeTuner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tuner, "own_ray", interrupt)
    assert place.run()[0] == 130
