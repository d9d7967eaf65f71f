"""Formats of compared studies: the terminal's tables, CSV, LaTeX and JSON."""

import csv
import io
import json
from pathlib import Path

import pytest

from study.compare import main
from study.reporting.exports import CSV_COLUMNS
from tests.support.stored_studies import Say, runs, store


def cells(text: str, start: str) -> list[str]:
    """A row of a drawn table."""
    line = next(line for line in text.splitlines() if line.startswith(f"│ {start}"))
    return [cell.strip() for cell in line.strip("│").split("│")]


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
