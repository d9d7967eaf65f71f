"""``python -m cluster.check``: what ships passes; what is found is a line; other files."""

from pathlib import Path

import pytest
import yaml

from cluster.check import findings_of, main
from cluster.findings import Finding
from tests.cluster.files import FILLED, FOLDER, filled
from tests.cluster.holes import WORKER


def findings(text: str) -> list[Finding]:
    return findings_of(yaml.safe_load(text))


@pytest.mark.parametrize("name", FILLED)
def test_what_ships_passes_once_it_is_filled_in(name: str) -> None:
    assert findings(filled(name)) == []


@pytest.mark.parametrize("name", FILLED)
def test_what_is_left_to_fill_in_is_listed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(FOLDER / name)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert all("must be filled in" in line for line in lines)
    numbered = (FOLDER / name).read_text().splitlines()
    expected = {
        f"{FOLDER / name}:{number}" for number, line in enumerate(numbered, 1) if "FILL_IN" in line
    }
    assert expected <= {line.split(": ")[0] for line in lines}


# The command


def test_each_finding_is_a_line_with_place_rule_value_and_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    text = filled("cluster.yaml").replace("HttpTokens: required", "HttpTokens: optional")
    path.write_text(text.replace("InstanceMarketOptions:", "InstanceMarketOption:"))
    number = next(
        i
        for i, line in enumerate(path.read_text().splitlines(), 1)
        if "InstanceMarketOption:" in line
    )
    assert main([str(path)]) == 1
    (misspelt,) = [
        line for line in capsys.readouterr().out.splitlines() if "InstanceMarketOption" in line
    ]
    assert misspelt.startswith(
        f"{path}:{number}: {WORKER}/InstanceMarketOption: must be a key of RunInstances, got "
        "'InstanceMarketOption'. Correct or remove it. Did you mean 'InstanceMarketOptions'?"
    )


def test_a_file_without_findings_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(filled("onprem.yaml"))
    assert main([str(path)]) == 0
    assert capsys.readouterr() == (f"{path}: nothing found.\n", "")


@pytest.mark.parametrize(
    "text, reason",
    [
        (None, "No such file"),
        ("a: [", "not YAML"),
        ("task: digits", "must be a file of `ray up`"),
        ("provider: {type: gcp}", "aws or local"),
        ("provider: aws", "aws or local"),
        ("apiVersion: ray.io/v1\nkind: RayCluster", "RayJob"),
    ],
)
def test_other_files_are_bad_input(
    text: str | None, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    if text is not None:
        path.write_text(text)
    assert main([str(path)]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith(str(path)) and reason in printed.err
