"""The reference of all keys is what the configuration classes say; its links lead somewhere."""

import re
from collections import Counter
from pathlib import Path

import pytest

from study.config.reference import reference
from study.config.study_config import PRUNERS, SAMPLERS, StudyConfig
from trainables.augmentations import AUGMENTATIONS
from trainables.backbones import BACKBONES
from trainables.configuration.schema import BaseConfig, Configured
from trainables.criteria import CRITERIA
from trainables.methods import METHODS
from trainables.tasks import TASKS
from trainables.trial_config import INITIALIZATIONS, TrialConfig

PAGE = Path(__file__).parents[3] / "docs" / "reference.md"
TABLES: dict[str, dict[str, Configured]] = {
    "Augmentation": {**AUGMENTATIONS},
    "Backbone": {**BACKBONES},
    "Criterion": {**CRITERIA},
    "Initialization": {**INITIALIZATIONS},
    "Method": {**METHODS},
    "Pruner": {**PRUNERS},
    "Sampler": {**SAMPLERS},
    "Task": {**TASKS},
}


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text()


def section(page: str, heading: str) -> str:
    """From a heading that holds ``heading`` to the next of its level or above."""
    found = re.search(rf"^(#+) [^\n]*{re.escape(heading)}", page, re.MULTILINE)
    assert found is not None, f"no section {heading}"
    rest = page[found.start() :]
    end = re.search(rf"\n#{{1,{len(found[1])}}} ", rest)
    return rest[: end.start()] if end else rest


def keys(text: str) -> set[str]:
    return set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))


def test_page_is_up_to_date(page: str) -> None:
    assert page == reference(), "run: python -m study.reference > docs/reference.md"


@pytest.mark.parametrize("heading, model", [("A space", StudyConfig), ("A trial", TrialConfig)])
def test_every_key_is_there(page: str, heading: str, model: type[BaseConfig]) -> None:
    assert keys(section(page, heading)) >= set(model.model_fields)


@pytest.mark.parametrize("kind", TABLES)
def test_every_entry_is_there_with_its_keys(page: str, kind: str) -> None:
    for name, entry in TABLES[kind].items():
        heading = next(
            (
                line
                for line in page.splitlines()
                if line.startswith(f"### {kind} ") and f"`{name}`" in line
            ),
            None,
        )
        assert heading is not None, f"{kind} {name}"
        assert keys(section(page, heading.removeprefix("### "))) >= set(entry.Config.model_fields)


def test_rows_say_what_they_should(page: str) -> None:
    rows = {
        line.split("|")[1].strip(): line
        for line in section(page, "`mcd`").splitlines()
        if line.startswith("| `")
    }
    assert (
        rows["`dropout`"]
        == "| `dropout` | number ≥ 0, < 1 | `0.5` | Dropout rate before each hidden layer. |"
    )
    folders = section(page, "Task `folders`")
    assert "| `source` | [path](#paths) | **required** | Tree of the labelled source. |" in folders
    assert "| `classes` | list of text or null | `null` |" in folders
    assert "| `test_sets` | mapping of names to [path](#paths) | `{}` |" in folders
    assert "one of the [augmentations](#augmentations) or null" in section(page, "A trial")


def test_every_key_is_explained(page: str) -> None:
    mute = [line for line in page.splitlines() if line.startswith("| `") and line.endswith("|  |")]
    assert mute == []


def test_links_lead_to_one_heading_each(page: str) -> None:
    anchors = Counter(
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    )
    links = set(re.findall(r"\(#([^)]*)\)", page))
    assert len(links) > 10
    assert {link: anchors[link] for link in links if anchors[link] != 1} == {}


def test_no_mark_of_docstrings_is_left(page: str) -> None:
    assert not re.search(r":\w+:`|(?<!`)``(?!`)|^Args:|object at 0x", page, re.MULTILINE)
