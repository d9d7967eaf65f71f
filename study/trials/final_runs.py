"""Which final runs count: those of the present winners.

A study that goes on with more trials may find another winner. The final runs of the earlier one
stay among the records, and are no runs of the new one: a final run is told by its configuration,
which is its winner's but for the seed and the test sets.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from study.config.study_config import StudyConfig
from study.trials.ranking import rank_trials, winners
from study.trials.records import TrialRecord, by_task
from trainables.config import TrialConfig
from trainables.configuration.schema import validate


def finals_of(best: Iterable[TrialRecord], records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The final runs of these winners that are complete: what figures are made of.

    Args:
        best: The winner of each condition, on each task.
        records: Of a study.
    """
    return [run for run in ended_finals(best, records) if run.outcome == "complete"]


def ended_finals(best: Iterable[TrialRecord], records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The final runs of these winners that have ended, failed ones too.

    Where a condition has no winner among the records, nothing speaks against its final runs.
    """
    of = {(winner.task, winner.condition): winner for winner in best}
    return [
        run
        for run in records
        if run.stage == "final"
        and ((winner := of.get((run.task, run.condition))) is None or _is_run_of(run, winner))
    ]


def present_winners(records: Sequence[TrialRecord], study: StudyConfig) -> list[TrialRecord]:
    """The winner of each condition, on each task, as the records stand."""
    standing = rank_trials(records, study.joint, len(study.task_names)) if study.joint else None
    tasks = by_task(records)
    return [
        winner
        for task in dict.fromkeys((*study.task_names, *tasks))
        for winner in winners(tasks.get(task, []), standing).values()
    ]


def _is_run_of(run: TrialRecord, winner: TrialRecord) -> bool:
    """Whether the two have one configuration.

    Not their digests are compared: records of an earlier version lack settings that have come
    since, whose defaults are what they ran with. A configuration that this version, or this
    machine, cannot read has to be equal as it stands.
    """
    one, other = _settings(run.config), _settings(winner.config)
    if one == other:
        return True
    try:
        return _completed(one) == _completed(other)
    except ValueError:
        return False


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration without what differs between a winner and its final runs."""
    evaluation = {key: value for key, value in config["evaluation"].items() if key != "test"}
    return {
        **{key: value for key, value in config.items() if key != "seed"},
        "evaluation": evaluation,
    }


def _completed(config: dict[str, Any]) -> dict[str, Any]:
    return validate(TrialConfig, config).model_dump(mode="json")
