"""The benchmark of a study's own costs: its figures come from real files and whole trials."""

from pathlib import Path

import pytest

from benchmarks import scale
from study.trials.records import read_records


def test_five_trials_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    meter = scale.Evaluator()
    with scale.opened(scale.settings_of(None, 5, "random", 2), tmp_path, meter) as session:
        scale.run_alone(session, 2)
        meter.mark()
    records = read_records(tmp_path / "records.jsonl")
    assert len(records) == meter.num_ended == 5
    assert {record.outcome for record in records} == {"complete", "pruned"}
    assert capsys.readouterr().out.startswith("     1 to      5:")
    sizes = scale.bytes_a_trial(session.study_folder, 5)
    assert sizes["records"] == round((tmp_path / "records.jsonl").stat().st_size / 5)
    assert min(sizes.values()) > 100


def test_a_window_is_of_its_own_trials() -> None:
    before, after = scale.Use(1.0, 10.0, 100 << 20), scale.Use(2.0, 14.0, 101 << 20)
    assert scale.window((100, before), (200, after)) == (
        "   101 to    200:   10.0 CPU-ms,   40.0 ms and  10.2 KiB a trial;   101 MiB"
    )


def test_a_space_is_measured_with_its_own_epochs() -> None:
    settings = scale.settings_of("s2rda_search", None, "random", 64)
    assert settings.num_trials == 120
    config = next(settings.space().probe_configs())
    assert [report.finished for report in scale.made_up(config)] == [False] * 19 + [True]
