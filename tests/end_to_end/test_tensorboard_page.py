"""TensorBoard's own HParams page, in a real browser, shows the numbers of the records."""

from pathlib import Path

import pytest
import torch

from study.reporting.tensorboard import TensorBoard
from study.storage.study_folder import StudyFolder
from study.trials.records import EvaluationRecord, Outcome, TrialRecord
from trainables.checkpointing.trial_folder import TrialFolder
from trainables.trial_config import TrialConfig

pages = pytest.importorskip("benchmarks.pages", reason="playwright is missing")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path(pages.CHROMIUM).exists(), reason="chromium is missing"),
]


def record(trial_id: str, outcome: Outcome, weight: float, oracle: float) -> TrialRecord:
    config = TrialConfig.model_validate({"task": "digits", "method": "dann"})
    metrics = {"source_val/accuracy": 0.75, "criterion/oracle": oracle}
    return TrialRecord(
        id=trial_id,
        stage="search",
        method="dann",
        condition="dann",
        seed=0,
        outcome=outcome,
        params={"method": "dann", "method/dann/domain_weight": weight},
        identity=config.identity(),
        config=config.model_dump(mode="json"),
        objective=0.5,
        best_evaluation=1,
        num_evaluations=1,
        evaluations=[EvaluationRecord(evaluation=1, epoch=1.0, objective=0.5, metrics=metrics)],
    )


def test_hparams_tab_shows_settings_figures_and_outcomes(tmp_path: Path) -> None:
    board = TensorBoard(StudyFolder(tmp_path), ["method", "method/dann/domain_weight"])
    board.catch_up(
        [
            record("0000", "complete", 0.125, 0.625),
            record("0001", "pruned", 2.5, 0.25),
            record("0002", "failed", 1.5, 0.375),
        ]
    )
    with pages.tensorboard(board.root) as address, pages.browser_page() as page:
        pages.open_hparams(page, address)
        page.wait_for_selector("text=0002")
        cells = page.locator("tf-hparams-table-view vaadin-grid-cell-content").all_inner_texts()
    text = [cell.strip() for cell in cells]
    for expected in (
        "0000",
        "0.12500",
        "0.62500",
        "complete",
        "0001",
        "2.5000",
        "0.25000",
        "pruned",
        "0002",
        "1.5000",
        "0.37500",
        "failed",
    ):
        assert expected in text, f"{expected} is not among {text}"
    rest = set(text) - {"0000", "0001", "0002"}
    noise = {heading for heading in rest if "hp_metric" in heading or "ray" in heading}
    assert {"outcome", "oracle: target-val acc."} <= rest and not noise


def test_images_tab_shows_data_and_confusion(tmp_path: Path) -> None:
    study_folder = StudyFolder(tmp_path)
    board = TensorBoard(study_folder, ["method"])
    picture = torch.zeros(3, 30, 50, dtype=torch.uint8)
    board.describe("task: digits\n", lambda: {"source/strong": picture, "target/weak": picture})
    TrialFolder(study_folder.trial("final-dann-seed1")).write_confusion(
        "target_test", ["a", "b"], [[1, 2], [3, 4]]
    )
    final = record("final-dann-seed1", "complete", 0.5, 0.5)
    board.catch_up(
        [final.model_copy(update={"stage": "final", "test": {"target_test/accuracy": 0.5}})]
    )
    with pages.tensorboard(board.root) as address, pages.browser_page(1366, 1000) as page:
        pages.open_images(page, address)
        for expected in ("batch/source/strong", "batch/target/weak", "confusion/target_test"):
            assert page.get_by_text(expected).count() == 1
        sizes = page.locator("tf-image-loader img").evaluate_all(
            "(images) => images.map((image) => [image.naturalWidth, image.naturalHeight])"
        )
    assert sorted(sizes) == [[50, 30], [50, 30], [580, 500]]
