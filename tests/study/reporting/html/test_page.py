"""The page of a comparison: its numbers are the records', and it needs nothing from outside."""

import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest

from study.analysis.published import Published
from study.analysis.stored_study import read_all
from study.compare import main
from study.reporting.html.page import as_html
from study.storage.study_folder import StudyFolder
from study.trials.records import read_records
from tests.support.fake_trials import make_record
from tests.support.generated_study import METHODS, generate
from tests.support.stored_studies import final, store
from trainables.checkpointing.trial_folder import TrialFolder

S2RDA = {"task": {"s2rda49": {}}, "backbone": {"resnet50": {}}}
NASTY = "</script><b>&\"'"


class Page(HTMLParser):
    """Tables by caption, figures by title, and everything that is loaded."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.figures: dict[str, dict[str, Any]] = {}
        self.loaded: list[str] = []
        self.tags: list[str] = []
        self.best: list[str] = []
        self.inside = ""
        self.title = ""
        self.rows: list[list[str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [str(value) for name, value in attrs if name in ("src", "href")]
        self.inside = tag
        if tag == "table":
            self.rows = []
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            if ("class", "best") in attrs:
                self.inside = "best"

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "caption":
            self.tables[data] = self.rows
        elif self.inside == "h4":
            self.title = data
        elif self.inside in ("td", "th", "best"):
            self.rows[-1][-1] += data
            self.best += [data] if self.inside == "best" else []
        elif self.inside == "script" and self.title:
            self.figures[self.title], self.title = json.loads(data), ""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(tmp_path_factory.mktemp("runs") / "generated", 40, 3)


@pytest.fixture(scope="module")
def text(folder: Path) -> str:
    return as_html(read_all([folder]), None)


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_the_table_s_numbers_are_the_records(folder: Path, page: Page) -> None:
    records = read_records(StudyFolder(folder).records)
    head, *rows = page.tables["Methods and tasks"]
    assert head == ["method", "digits: accuracy", "digits: mean class"]
    assert [name for name, *_ in rows] == ["no_adaptation", "dann", "mcd"]
    for name, *shown in rows:
        for cell, metric in zip(shown, ("accuracy", "mean_class_accuracy"), strict=True):
            values = [
                100 * r.test[f"target_test/{metric}"]
                for r in records
                if r.stage == "final" and r.method == name
            ]
            assert cell == f"{mean(values):.1f} ± {stdev(values):.1f}"
    assert page.best == rows[2][1:]


def test_counts_and_cost_are_the_records(folder: Path, page: Page) -> None:
    records = read_records(StudyFolder(folder).records)
    _, *rows = page.tables["Search and cost"]
    for name, done, stopped, failed, seeds, minutes, winner, settings in rows:
        own = [r for r in records if r.method == name]
        search = [r for r in own if r.stage == "search"]
        assert [int(done), int(stopped), int(failed)] == [
            sum(r.outcome == outcome for r in search)
            for outcome in ("complete", "pruned", "failed")
        ]
        assert int(seeds) == len(own) - len(search) == 3
        assert minutes == f"{sum(r.cpu_seconds for r in own) / 60:.1f}"
        best = max((r for r in search if r.outcome == "complete"), key=lambda r: r.objective or 0)
        assert winner == best.id
        assert f"learning_rate {best.params['optimizer/learning_rate']:.3g}" in settings


def test_figures_hold_the_records_numbers(folder: Path, page: Page) -> None:
    records = read_records(StudyFolder(folder).records)
    by_id = {record.id: record for record in records}
    for trace in page.figures["Search: bnm"]["data"]:
        for name, x, y in zip(trace["text"], trace["x"], trace["y"], strict=True):
            if name is not None:
                evaluation = by_id[name].evaluations[int(x) - 1]
                assert y == evaluation.metrics["criterion/bnm"]
    heatmaps = page.figures["Confusion on target_test"]["data"]
    assert [trace["name"] for trace in heatmaps] == list(METHODS)
    for trace in heatmaps:
        found = [
            TrialFolder(
                StudyFolder(folder).trial(f"final-{trace['name']}-seed{seed}")
            ).read_confusion("target_test")
            for seed in (1, 2, 3)
        ]
        corner = sum(matrix[1][0][0] for matrix in found if matrix is not None)
        assert trace["customdata"][0][0] == corner


def test_every_kind_of_figure_is_there(page: Page) -> None:
    kinds = {
        "Accuracy of each class on target_test",
        "Confusion on target_test",
        "Final runs: bnm",
        "Search: bnm",
        "Importance of settings",
        "History",
        "mcd: slices",
        "mcd: parallel coordinates",
        "Criterion against accuracy",
        "Cost",
        "Timeline of the search",
    }
    assert kinds <= set(page.figures)


def test_nothing_comes_from_outside(text: str, page: Page) -> None:
    assert [place for place in page.loaded if not place.startswith("#")] == []
    assert not re.search(r"@import|url\(", text[: text.index("<body>")])
    assert text.count("plotly.js v") == 1


def test_oracle_figures_are_called_so(page: Page) -> None:
    for title, figure in page.figures.items():
        labels = json.dumps(figure["layout"])
        assert ("target-val" in labels) <= ("oracle" in labels), title
    assert page.tables["What the choice without labels lost"][0][2] == "oracle's choice"


def test_the_paper_s_figures_are_called_an_oracle_s(tmp_path: Path) -> None:
    test = {"target_test/accuracy": 0.5, "target_test/mean_class_accuracy": 0.5}
    studies = read_all([store(tmp_path / "s2rda", [final("srdc", 1, test, **S2RDA)])])
    text = as_html(studies, Published.read())
    head, row = Page(text).tables["Methods and tasks"]
    assert dict(zip(head[1:3], row[1:3], strict=True)) == {
        "s2rda49: accuracy": "50.0",
        "paper (oracle)": "61.5",
    }
    assert "selected by an ORACLE" in text
    assert "paper (oracle)" not in as_html(studies, None)


def test_names_cannot_break_the_page(tmp_path: Path) -> None:
    folder = store(
        tmp_path / "a<i>b",
        [
            make_record("0000", [0.5], params={"method": NASTY}),
            final("dann", 1, {"target_test/accuracy": 0.5}),
        ],
    )
    TrialFolder(StudyFolder(folder).trial("final-dann-seed1")).write_confusion(
        "target_test", [NASTY, "b"], [[1, 2], [3, 4]]
    )
    page = Page(as_html(read_all([folder]), None))
    assert not {"i", "b"} & set(page.tags)
    assert page.figures["Confusion on target_test"]["data"][0]["x"] == [NASTY, "b"]


def test_a_study_that_has_begun_is_shown(tmp_path: Path) -> None:
    folder = store(tmp_path / "early", [make_record("0000", [0.5, 0.75], oracle=[0.5, 0.5])])
    page = Page(as_html(read_all([folder]), None))
    assert page.tables["Methods and tasks"] == [["method"], ["dann"]]
    assert set(page.figures) == {"Search: bnm", "Criterion against accuracy", "Cost"}


def test_several_studies_each_have_a_part(folder: Path, tmp_path: Path) -> None:
    other = store(tmp_path / "other", [make_record("0000", [0.5])])
    text = as_html(read_all([folder, other]), None)
    assert "generated, task digits" in text and "other, task digits" in text
    head = Page(text).tables["Methods and tasks"][0]
    assert "digits · generated: accuracy" in head


def test_the_command_writes_a_file_and_says_where(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([str(folder), "--format", "html"]) == 0
    assert capsys.readouterr().out == "comparison.html\n"
    assert (tmp_path / "comparison.html").read_text().startswith("<!doctype html>")


@pytest.mark.slow
def test_a_thousand_trials_render_in_time_and_in_a_file_of_a_sane_size(tmp_path: Path) -> None:
    generate(tmp_path / "large", 1000)
    started = time.process_time()  # others may be using the machine
    assert (
        main([str(tmp_path / "large"), "--format", "html", "--out", str(tmp_path / "page.html")])
        == 0
    )
    assert time.process_time() - started < 10
    assert (tmp_path / "page.html").stat().st_size < 8_000_000
