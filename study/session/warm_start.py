"""Warm starts: a new study begins with what an earlier one found.

The earlier study's best configurations are tried first, even those of another task: values that
the new space does not have or allow are left out and drawn instead. Results of the same task and
fixed settings can also be given to the sampler without running anything.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from study.config.reading import read_config
from study.config.study_config import StudyConfig
from study.session.ask_tell import Search
from study.spaces.nodes import Params, Scalar
from study.spaces.search_space import SearchSpace
from study.storage.study_folder import StudyFolder
from study.trials.ranking import rank_trials
from study.trials.records import TrialRecord, read_records
from trainables.criteria import RankAverage

KNOWN = "known from"
"""Attribute of a trial in Optuna's storage that did not run: the trial whose result it is."""


@dataclass(frozen=True)
class WarmStart:
    """What a new study begins with: nothing by default."""

    params: tuple[Params, ...] = ()
    """Values of its first trials."""
    known: tuple[FrozenTrial, ...] = ()
    """Results that its sampler is given."""

    def apply(self, search: Search) -> None:
        """Give them to a search, once in its life."""
        if search.get_attr("warm start", False):
            return
        for params in self.params:
            search.enqueue(params, skip_if_exists=True)
        there = {trial.user_attrs.get(KNOWN) for trial in search.optuna_study.trials}
        search.add(trial for trial in self.known if trial.user_attrs[KNOWN] not in there)
        search.set_attr("warm start", True)


def best_params(folder: Path, count: int, space: SearchSpace) -> tuple[Params, ...]:
    """Return the values of an earlier study's best trials, ``count`` per condition.

    Conditions take turns, the best trial of each first.

    Raises:
        ValueError: The study has no such trials, or none has a value that ``space`` allows.
    """
    if count < 1:
        raise ValueError(f"--warm-start-best: must be above 0, got {count}.")
    parameters = space.tree.parameters()
    places: list[tuple[int, TrialRecord]] = []
    seen: dict[str, int] = {}
    finished = _finished(folder)
    earlier = read_config(StudyFolder(folder))
    ranks = rank_trials(finished, earlier.joint, len(earlier.task_names))
    trials = {record.trial: record for record in finished if record.id in ranks}
    for record in sorted(trials.values(), key=lambda r: ranks[r.id], reverse=True):
        places.append((seen.setdefault(record.condition, 0), record))
        seen[record.condition] += 1
    chosen: list[Params] = []
    for place, record in sorted(places, key=lambda item: item[0]):
        params = {
            name: value
            for name, value in record.params.items()
            if name in parameters and _allows(parameters[name], value)
        }
        if place < count and params and params not in chosen:
            chosen.append(params)
    if not chosen:
        raise ValueError(
            f"{folder}: none of its trials has a value that this space searches and allows."
        )
    return tuple(chosen)


def known_trials(folder: Path, study: StudyConfig, space: SearchSpace) -> tuple[FrozenTrial, ...]:
    """Return the results of an earlier study of the same task, criterion and fixed settings.

    Raises:
        ValueError: The studies differ in these, or this space could have drawn none of its trials.
    """
    if isinstance(study.criterion.config, RankAverage.Config):
        raise ValueError(
            f"{folder}: ranks compare the trials of one study, so its results say "
            "nothing here. Its configurations can be tried: --warm-start."
        )
    if study.joint is not None:
        raise ValueError(
            f"{folder}: a trial's score on several tasks does not follow from results "
            "on one. Its configurations can be tried: --warm-start."
        )
    if study.cost is not None:
        raise ValueError(
            f"{folder}: seconds there were measured under another load, so its "
            "results say nothing here. Its configurations can be tried: "
            "--warm-start."
        )
    finished = _finished(folder)
    earlier = read_config(StudyFolder(folder))
    different = [
        key
        for key in ("task", "joint", "criterion", "seed", "directory", "fixed")
        if earlier.model_dump()[key] != study.model_dump()[key]
    ]
    if different:
        raise ValueError(
            f"{folder}: its results are of another study; it differs in "
            f"{', '.join(different)}. Its configurations can be tried: --warm-start."
        )
    trials = tuple(_known(folder.name, finished, study, space))
    if not trials:
        raise ValueError(f"{folder}: none of its trials could have been drawn from this space.")
    return trials


def _known(
    name: str, records: Sequence[TrialRecord], study: StudyConfig, space: SearchSpace
) -> Iterator[FrozenTrial]:
    parameters = space.tree.parameters()
    for record in records:
        if (
            record.same_as is not None
            or record.params.keys() - parameters.keys()
            or not all(_allows(parameters[name], value) for name, value in record.params.items())
        ):
            continue
        try:
            (run,) = study.on_each_task(space.complete(record.params))
        except ValueError:
            continue
        if run.config.identity() == record.identity:
            complete = record.outcome == "complete"
            yield create_trial(
                state=TrialState.COMPLETE if complete else TrialState.PRUNED,
                value=record.objective,
                params=dict(record.params),
                distributions={name: parameters[name] for name in record.params},
                intermediate_values={e.evaluation: e.objective for e in record.evaluations},
                user_attrs={KNOWN: f"{name}/{record.id}"},
            )


def _finished(folder: Path) -> Sequence[TrialRecord]:
    """Return the records of a study's search that have an objective."""
    path = StudyFolder(folder).records
    records = [
        record
        for record in read_records(path)
        if record.stage == "search" and record.objective is not None and record.outcome != "failed"
    ]
    if not records:
        raise ValueError(f"{folder}: no trial of a study has ended here.")
    return records


def _allows(distribution: BaseDistribution, value: Scalar) -> bool:
    """Return whether a value could have been drawn."""
    if isinstance(distribution, CategoricalDistribution):
        return any(
            type(value) is type(choice) and value == choice for choice in distribution.choices
        )
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    kind = int if isinstance(distribution, IntDistribution) else (int, float)
    return (
        isinstance(value, kind)
        and not isinstance(value, bool)
        and distribution.low <= value <= distribution.high
    )
