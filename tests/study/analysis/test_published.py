"""The paper's figures are shown next to ours of the same experiment, and no others."""

from importlib import resources
from typing import Any

import pytest
import yaml

from study.analysis.published import HEADING, NOTE, Published
from tests.support.stored_studies import final

ACCURACY, MEAN = "target_test/accuracy", "target_test/mean_class_accuracy"
S2RDA = {"task": {"s2rda49": {}}, "backbone": {"resnet50": {}}}
SYNSL: dict[str, Any] = {
    "task": {"synsl": {"source": "SynSL-120K/train"}},
    "backbone": {"resnet50": {}},
    "augmentation": {"strong": {}},
    "initialization": {"none": {}},
    "schedule": {"num_steps": 200_000, "num_epochs": None},
}


@pytest.fixture(scope="module")
def published() -> Published:
    return Published.read()


def figure(published: Published, method: str, metric: str, **config: object) -> float | None:
    return published.figure(final(method, 1, {}, **config), metric)


def test_figures_of_adaptation_are_table_4_s(published: Published) -> None:
    assert figure(published, "srdc", ACCURACY, **S2RDA) == pytest.approx(0.6152)
    assert figure(published, "no_adaptation", MEAN, **S2RDA) == pytest.approx(0.4219)
    ms39 = {**S2RDA, "task": {"s2rda_ms39": {}}}
    assert figure(published, "disclusterda", ACCURACY, **ms39) == pytest.approx(0.2714)


@pytest.mark.parametrize(
    "metric, expected",
    [
        ("test_IID/accuracy", 0.9486),
        ("test_IID_wo_BG/mean_class_accuracy", 0.9533),
        ("test_OOD/accuracy", 0.4224),
        ("test_OOD/mean_class_accuracy", 0.4173),
    ],
)
def test_figures_of_supervised_training_are_table_1_s(
    published: Published, metric: str, expected: float
) -> None:
    assert figure(published, "supervised", metric, **SYNSL) == pytest.approx(expected)


def test_samples_that_do_not_repeat_have_figures_of_their_own(published: Published) -> None:
    config = {**SYNSL, "task": {"synsl": {"source": "SynSL"}}, "backbone": {"vit_base": {}}}
    assert figure(published, "supervised", "test_OOD/accuracy", **config) == pytest.approx(0.3089)


@pytest.mark.parametrize(
    "config",
    [
        {**S2RDA, "backbone": {"resnet18": {}}},
        {**S2RDA, "task": {"digits": {}}},
        {**SYNSL, "backbone": {"resnet18": {}}},
        {**SYNSL, "augmentation": {"randaugment": {}}},
        {**SYNSL, "schedule": {"num_steps": 100, "num_epochs": None}},
        {**SYNSL, "initialization": {"imagenet": {}}},
        {**SYNSL, "task": {"synsl": {"source": "SynSL-120K/train+SubImageNet"}}},
    ],
)
def test_nothing_stands_beside_what_the_paper_did_not_do(
    published: Published, config: dict[str, object]
) -> None:
    for metric in (ACCURACY, MEAN, "test_OOD/accuracy"):
        assert figure(published, "supervised", metric, **config) is None


def test_other_metrics_have_no_figure(published: Published) -> None:
    assert figure(published, "srdc", "source_val/accuracy", **S2RDA) is None
    assert figure(published, "supervised", "test_OOD/head_1_accuracy", **SYNSL) is None


def test_the_paper_s_figures_are_called_an_oracle_s() -> None:
    assert "oracle" in HEADING and "ORACLE" in NOTE and "not measured here" in NOTE


def test_the_tables_come_with_the_package() -> None:
    tables = yaml.safe_load(
        resources.files("study.analysis").joinpath("published_results.yaml").read_text()
    )
    assert set(tables) == {"table1_supervised", "table2_factors", "table4_s2rda"}
    rows = tables["table1_supervised"]
    assert all(
        len(row) == len(rows["columns"])
        for name in ("resnet50", "vit_b16", "mixer_b16")
        for row in rows[name]
    )
