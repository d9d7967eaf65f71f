"""The command that compares studies: its formats, and what it says of bad input."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from study.compare import main
from study.reporting.exports import CSV_COLUMNS
from study.trials.records import TrialRecord
from tests.support.fake_trials import make_record
from tests.support.stored_studies import describe, final, run_fake, store

Say = Callable[..., str]
S2RDA = {"task": {"s2rda49": {}}, "backbone": {"resnet50": {}}}


def runs(method: str, *accuracies: float, **config: object) -> list[TrialRecord]:
    return [
        final(
            method,
            seed,
            {"target_test/accuracy": accuracy, "target_test/mean_class_accuracy": accuracy / 2},
            **config,
        )
        for seed, accuracy in enumerate(accuracies, start=1)
    ]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    run_fake(root / "digits_study")
    store(
        root / "s2rda",
        [
            *runs("no_adaptation", 0.5, 0.625, **S2RDA),
            *runs("srdc", 0.75, 0.5, **S2RDA),
            make_record("0000", [0.5], method="srdc", oracle=[0.5]).model_copy(
                update={"config": final("srdc", 1, {}, **S2RDA).config}
            ),
        ],
    )
    return root


@pytest.fixture
def say(root: Path, capsys: pytest.CaptureFixture[str]) -> Say:
    """Runs the command on studies by name; what it prints."""

    def run(*arguments: str) -> str:
        assert main([str(root / a) if (root / a).is_dir() else a for a in arguments]) == 0
        shown = capsys.readouterr()
        assert shown.err == ""
        return shown.out

    return run


def cells(text: str, start: str) -> list[str]:
    """A row of a drawn table."""
    line = next(line for line in text.splitlines() if line.startswith(f"│ {start}"))
    return [cell.strip() for cell in line.strip("│").split("│")]


# Formats


def test_the_table_fits_80_columns_uncut(say: Say) -> None:
    for arguments in (["digits_study"], ["digits_study", "s2rda", "--published"]):
        text = say(*arguments)
        assert max(map(len, text.splitlines())) <= 80
        assert "…" not in text


def test_the_table_is_methods_by_tasks(say: Say) -> None:
    text = say("digits_study", "s2rda")
    assert cells(text, "no_adaptation") == [
        "no_adaptation",
        "70.0 ± 0.0",
        "60.0 ± 0.0",
        "56.2 ± 8.8",
        "28.1 ± 4.4",
    ]
    assert cells(text, "+ target") == ["+ target BatchNorm", "80.0 ± 0.0", "–", "–", "–"]
    assert cells(text, "srdc") == ["srdc", "–", "–", "62.5 ± 17.7", "31.2 ± 8.8"]
    assert "digits_study, task digits: 10 of 10 trials and 4 final runs have ended." in text


def test_the_paper_s_figures_stand_beside_ours(say: Say) -> None:
    text = say("s2rda", "--published")
    assert cells(text, "srdc") == ["srdc", "62.5 ± 17.7", "61.5", "31.2 ± 8.8", "53.0"]
    assert "paper (oracle)" in text and "selected by an ORACLE" in text


def test_where_the_paper_has_no_figures_that_is_said(say: Say) -> None:
    text = say("digits_study", "s2rda")
    assert "paper" not in text
    assert "The paper has no figures" in say("digits_study", "--published")


def test_csv_has_a_line_for_each_figure(say: Say) -> None:
    reader = csv.DictReader(
        io.StringIO(say("s2rda", "digits_study", "--format", "csv", "--published"))
    )
    assert tuple(reader.fieldnames or ()) == CSV_COLUMNS
    lines = {(line["study"], line["condition"], line["metric"]): line for line in reader}
    line = lines["s2rda", "srdc", "target_test/accuracy"]
    assert (line["task"], line["num_seeds"], line["values"]) == ("s2rda49", "2", "0.75 0.5")
    assert float(line["mean"]) == 0.625
    assert float(line["std"]) == pytest.approx(0.1767766952966369)
    assert (line["selected_by"], line["selected_by_oracle"]) == ("bnm", "False")
    assert float(line["paper_selected_by_oracle"]) == pytest.approx(0.6152)
    baseline = lines["digits_study", "no_adaptation + target BatchNorm", "target_test/accuracy"]
    assert float(baseline["mean"]) == pytest.approx(0.8)
    assert baseline["paper_selected_by_oracle"] == ""


def test_latex_is_a_booktabs_table(say: Say) -> None:
    lines = [
        line.strip()
        for line in say("digits_study", "s2rda", "--format", "latex", "--published").splitlines()
    ]
    assert r"\begin{tabular}{lrrrrrr}" in lines
    assert [lines.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    assert r"\cmidrule(lr){2-3}\cmidrule(lr){4-7}" in lines
    assert (
        r"srdc & -- & -- & \textbf{62.5 $\pm$ 17.7} & 61.5 & "
        r"\textbf{31.2 $\pm$ 8.8} & 53.0 \\" in lines
    )
    assert r"dann & 70.0 $\pm$ 0.0 & 60.0 $\pm$ 0.0 & -- & -- & -- & -- \\" in lines
    (caption,) = [line for line in lines if line.startswith(r"\caption")]
    assert "ORACLE" in caption and r"digits\_study: Checkpoints" in caption
    body = [line for line in lines if line.endswith(r"\\") and "multicolumn" not in line]
    assert {line.count("&") for line in body} == {6}


def test_json_keeps_its_keys(say: Say) -> None:
    content = json.loads(say("digits_study", "s2rda", "--format", "json", "--published"))
    assert content["version"] == 1 and set(content) == {"version", "studies"}
    first, second = content["studies"]
    for study in (first, second):
        assert {
            "name",
            "task",
            "criterion",
            "selected_by_target_labels",
            "rows",
            "baseline",
            "regrets",
            "paper_selected_by_oracle",
        } <= set(study)
        for row in study["rows"]:
            assert {
                "name",
                "metrics",
                "num_seeds",
                "outcomes",
                "cpu_seconds",
                "params",
                "winner",
            } <= set(row)
    assert (second["name"], second["task"], second["criterion"]) == ("s2rda", "s2rda49", "bnm")
    rows = {row["name"]: row for row in second["rows"]}
    assert rows["srdc"]["metrics"]["target_test/accuracy"] == [0.75, 0.5]
    assert second["paper_selected_by_oracle"]["srdc"]["target_test/accuracy"] == pytest.approx(
        0.6152
    )
    assert first["paper_selected_by_oracle"] == {"dann": {}, "no_adaptation": {}}


@pytest.mark.parametrize("form", ["table", "csv", "latex", "json"])
def test_a_file_gets_what_the_terminal_would(say: Say, tmp_path: Path, form: str) -> None:
    path = tmp_path / "out"
    assert say("s2rda", "--format", form, "--out", str(path)) == ""
    shown = say("s2rda", "--format", form)
    assert path.read_text() == shown


def test_an_oracle_is_called_one_in_every_format(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = store(tmp_path / "cheat", runs("dann", 0.5), criterion="oracle")
    for form, word in (
        ("table", "ORACLE"),
        ("csv", "oracle,True"),
        ("latex", "ORACLE"),
        ("json", '"selected_by_target_labels": true'),
    ):
        assert main([str(folder), "--format", form]) == 0
        assert word in capsys.readouterr().out


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
