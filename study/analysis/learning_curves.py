"""Learning curves of trials as a table, from a study's records or from a file."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from study.storage.study_folder import StudyFolder
from study.trials.records import TrialRecord, by_task, read_records
from trainables.configuration.former_keys import present_path
from trainables.training.report import CRITERION_PREFIX, SOURCE_ACCURACY

FIXED_COLUMNS = ("seed", "trial", "evaluation", "objective", SOURCE_ACCURACY)
"""Columns other than searched values and criteria."""


def curves_of(records: Sequence[TrialRecord]) -> pd.DataFrame:
    """Return a table with a row per evaluation of each search trial.

    Columns: ``seed``, ``trial``, ``evaluation``, ``objective`` (of the best checkpoint so far),
    ``source_val/accuracy``, the searched values by path, and ``criterion/<name>``.
    """
    return pd.DataFrame(
        [
            {
                "seed": record.seed,
                "trial": record.id,
                "evaluation": evaluation.evaluation,
                "objective": evaluation.objective,
                SOURCE_ACCURACY: evaluation.metrics[SOURCE_ACCURACY],
                **record.params,
                **{
                    name: value
                    for name, value in evaluation.metrics.items()
                    if name.startswith(CRITERION_PREFIX)
                },
            }
            for record in records
            if record.stage == "search"
            for evaluation in record.evaluations
        ]
    )


def read_curves(path: Path) -> pd.DataFrame:
    """Read the curves of a study's folder, or of a CSV file that holds such a table.

    Raises:
        ValueError: The path is neither, or holds no trial.
    """
    if path.is_dir():
        records = read_records(StudyFolder(path).records)
        tasks = list(by_task(records))
        if len(tasks) > 1:
            raise ValueError(
                f"{path}: holds trials on {', '.join(tasks)}, and learning curves "
                "must be of a single task."
            )
        table = curves_of(records)
    elif path.exists():
        try:
            table = pd.read_csv(path, dtype={"trial": str}).rename(columns=present_path)
        except (ValueError, OSError) as error:
            raise ValueError(f"{path}: not a table of learning curves ({error}).") from error
    else:
        raise ValueError(f"{path}: neither a study's folder nor a table of learning curves.")
    missing = [name for name in FIXED_COLUMNS if name not in table.columns]
    if table.empty or missing:
        raise ValueError(f"{path}: holds no trials with evaluations.")
    return table
