"""What a job is sent."""

import subprocess
import sys
from pathlib import Path

import pytest

from study.jobs.packing import Submission, pack
from tests.support.studies import TINY


def submission(space: str, **changes: object) -> Submission:
    return Submission(
        **{
            "space": space,
            "name": "study",
            "storage": "/shared",
            "resume": False,
            "arguments": ("--storage", "/shared runs"),
            **changes,
        }
    )


def test_a_space_of_one_s_own_goes_along(tmp_path: Path) -> None:
    command = pack(submission(str(TINY), resume=True), tmp_path)
    assert command == (
        "python -m study.run --space given/tiny.yaml --address auto "
        "--storage '/shared runs' --resume"
    )
    assert (tmp_path / "given/tiny.yaml").read_bytes() == TINY.read_bytes()


@pytest.mark.slow
def test_the_working_directory_runs_the_study_by_itself(tmp_path: Path) -> None:
    pack(submission("digits"), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "study",
        "trainables",
        "search_spaces",
        ".gitignore",
    }
    assert not list(tmp_path.rglob("__pycache__"))
    done = subprocess.run(
        [
            sys.executable,
            "-P",
            "-c",
            "import sys; sys.path.insert(0, '.'); import study.run;"
            "sys.exit(study.run.main(['--list']))",
        ],
        cwd=tmp_path,
        env={"PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "digits" in done.stdout, done.stderr


def test_records_of_an_earlier_study_go_along(tmp_path: Path) -> None:
    earlier, folder = tmp_path / "earlier", tmp_path / "sent"
    (earlier / "trials").mkdir(parents=True)
    folder.mkdir()
    (earlier / "study.yaml").write_text("task: digits")
    (earlier / "records.jsonl").write_text("{}\n")
    command = pack(
        submission(
            "digits",
            earlier=(("--warm-start", str(earlier)), ("--known-results", "s3://bucket/runs/it")),
        ),
        folder,
    )
    assert command.endswith("--warm-start given/earlier --known-results s3://bucket/runs/it")
    assert {path.name for path in (folder / "given/earlier").iterdir()} == {
        "study.yaml",
        "records.jsonl",
    }
