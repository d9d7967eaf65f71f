"""The command that compares studies: where its output goes, and what it says of bad input."""

from pathlib import Path

import pytest

from study.compare import main
from tests.support.stored_studies import Say, describe, run_fake, runs, store

# Output


@pytest.mark.parametrize("form", ["table", "csv", "latex", "json"])
def test_a_file_gets_what_the_terminal_would(say: Say, tmp_path: Path, form: str) -> None:
    path = tmp_path / "out"
    assert say("s2rda", "--format", form, "--out", str(path)) == ""
    shown = say("s2rda", "--format", form)
    assert path.read_text() == shown


# A study under way


def test_a_study_under_way_is_read_and_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_fake(tmp_path / "running", final_seeds=0)
    with (folder / "records.jsonl").open("ab") as file:
        file.write(b'{"id": "00')  # being written
    (folder / "optuna.journal.lock").symlink_to(folder / "optuna.journal")
    before = {path: (path.lstat().st_mtime_ns, path.lstat().st_size) for path in folder.iterdir()}
    assert main([str(folder)]) == 0
    assert "No final run has ended" in capsys.readouterr().out
    assert {
        path: (path.lstat().st_mtime_ns, path.lstat().st_size) for path in folder.iterdir()
    } == before


# Bad input


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(argument) for argument in arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1
    return shown.err


def test_a_folder_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(capsys, tmp_path / "no") == f"{tmp_path / 'no'}: no such folder.\n"


def test_a_folder_that_is_no_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "not a study's folder" in refusal(capsys, tmp_path)


def test_a_study_without_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    describe(tmp_path / "new")
    assert "no trial of this study has ended yet" in refusal(capsys, tmp_path / "new")


def test_a_description_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("num_trials: none\nfixed: 1\n", "a: [\n", "just text"):
        (tmp_path / "study.yaml").write_text(text)
        assert "study.yaml: not a study (" in refusal(capsys, tmp_path)


def test_records_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study_folder = describe(tmp_path / "torn")
    study_folder.records.write_text('{"id": 1}\n')
    assert "records.jsonl:1: not a trial record" in refusal(capsys, study_folder.root)


def test_an_unknown_format(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = refusal(capsys, root / "s2rda", "--format", "docx")
    assert text == "--format: must be one of table, csv, latex, html, json, got 'docx'.\n"


def test_two_studies_of_one_name(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = store(tmp_path / "s2rda", runs("dann", 0.5))
    text = refusal(capsys, root / "s2rda", other)
    assert f"two studies are named 's2rda', the other one is {root / 's2rda'}" in text


def test_a_file_that_cannot_be_written(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    text = refusal(capsys, root / "s2rda", "--out", tmp_path / "file" / "below")
    assert "cannot be written" in text
