"""Optuna's figures of a study, from its storage, which is only read."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import optuna
import plotly.graph_objects as go
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization import (
    plot_optimization_history,
    plot_parallel_coordinate,
    plot_param_importances,
    plot_pareto_front,
    plot_slice,
    plot_timeline,
)
from plotly.colors import sample_colorscale

from study.analysis.comparison import condition_names
from study.config.study_config import Cost
from study.reporting.html.cards import SCALE, Card
from study.session.ask_tell import renamed
from study.trials.records import TrialRecord
from study.trials.running_trial import search_id
from trainables.configuration.former_keys import present_path

MAX_LINES = 150
"""Maximum number of trials in parallel coordinates."""
MAX_BARS = 200
"""Maximum number of trials in the timeline."""

DIRECTIONS = (StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE)
"""Directions of the criterion and of a cost."""

STATES = {
    "COMPLETE": "#3b82f6",
    "PRUNED": "#e8a33d",
    "FAIL": "#e45756",
    "RUNNING": "#54a24b",
    "WAITING": "#98a2b1",
}
"""Colours of states in the timeline."""


def stored_trials(journal: Path) -> list[FrozenTrial]:
    """Return all trials of a storage, including running ones; none if there is no storage.

    Parameters have their present names. Reading takes no lock and ignores a line that is still
    being written.
    """
    if not journal.exists():
        return []
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(journal)))
    return [
        renamed(trial, present_path)
        for study in storage.get_all_studies()
        for trial in storage.get_all_trials(study._study_id, deepcopy=False)
    ]


def search_cards(
    records: Sequence[TrialRecord], trials: Sequence[FrozenTrial], criterion: str
) -> Iterator[Card]:
    """Draw history, importances and, per condition, slices and parallel coordinates.

    Args:
        records: The records of one task.
        trials: The trials of the storage.
        criterion: The name of the objective.
    """
    conditions = {record.trial: record.condition for record in records if record.stage == "search"}
    ended = [trial for trial in trials if search_id(trial.number) in conditions]
    done = [trial for trial in ended if trial.state == TrialState.COMPLETE]
    if not done:
        return
    history = _plain(plot_optimization_history(_study(ended), target_name=criterion))
    yield Card("History", history, "Trials that ran to their end.")
    yield from _importances(done)
    for condition in condition_names(records):
        own = [t for t in done if conditions[search_id(t.number)] == condition]
        if own:
            yield from _of_condition(own, condition, criterion)


def front_cards(
    records: Sequence[TrialRecord],
    trials: Sequence[FrozenTrial],
    criterion: str,
    cost: Cost | None,
) -> Iterator[Card]:
    """Draw criterion against cost if the study minimises one."""
    own = {record.trial for record in records if record.stage == "search"}
    done = [
        trial
        for trial in trials
        if trial.state == TrialState.COMPLETE and search_id(trial.number) in own
    ]
    if cost is not None and done:
        figure = plot_pareto_front(_study(done, num_objectives=2), target_names=[criterion, cost])
        yield Card("Pareto front", _plain(figure), "Trials that ran to their end.")


def _study(
    trials: Sequence[FrozenTrial], names: Mapping[str, str] | None = None, num_objectives: int = 1
) -> optuna.Study:
    """Make a study in memory that holds these trials.

    Args:
        trials: The trials in this order.
        names: New names by name of the parameters to keep; all of them unchanged if ``None``.
        num_objectives: The number of values to keep: 1 for the criterion, 2 with its cost.
    """
    study = optuna.create_study(directions=DIRECTIONS[:num_objectives])
    for trial in trials:
        keep = names if names is not None else {name: name for name in trial.params}
        study.add_trial(
            FrozenTrial(
                number=trial.number,
                trial_id=trial.number,
                state=trial.state,
                value=None,
                values=trial.values and trial.values[:num_objectives],
                datetime_start=trial.datetime_start,
                datetime_complete=trial.datetime_complete,
                params={keep[n]: value for n, value in trial.params.items() if n in keep},
                distributions={keep[n]: d for n, d in trial.distributions.items() if n in keep},
                user_attrs={},
                system_attrs={},
                intermediate_values={},
            )
        )
    return study


def _importances(trials: Sequence[FrozenTrial]) -> Iterator[Card]:
    names = {name for trial in trials for name in trial.params}
    if len({_criterion(trial) for trial in trials}) < 2 or not names:
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure = _plain(plot_param_importances(_study(trials)))
    figure.update_layout(height=max(360, 130 + 28 * len(names)))
    few = " Few trials for some settings: read with care." if caught else ""
    yield Card(
        "Importance of settings",
        figure,
        f"Optuna's PED-ANOVA, over {len(trials)} trials that ran to their end.{few}",
    )


def _of_condition(trials: Sequence[FrozenTrial], condition: str, criterion: str) -> Iterator[Card]:
    drawn = dict.fromkeys(name for trial in trials for name in trial.params)
    names = _short([name for name in drawn if len({t.params.get(name) for t in trials}) > 1])
    if not names:
        return
    slices = _plain(plot_slice(_study(trials, names), target_name=criterion))
    slices.update_traces(marker={"colorscale": SCALE, "line": {"width": 0}})
    yield Card(
        f"{condition}: slices",
        slices,
        "Trials that ran to their end; colour is their order.",
        wide=len(names) > 2,
    )
    ranked = sorted(trials, key=_criterion)
    shown = ranked[-MAX_LINES:]
    lines = _parallel(shown, names, criterion)
    left_out = f" The best {len(shown)} of {len(ranked)}." if len(shown) < len(ranked) else ""
    yield Card(
        f"{condition}: parallel coordinates",
        lines,
        f"Trials that ran to their end.{left_out}",
        wide=len(names) > 2,
    )


def _criterion(trial: FrozenTrial) -> float:
    """Return the criterion of a complete trial, its first value; a cost would be the second."""
    return float(trial.values[0])


def _short(paths: Sequence[str]) -> dict[str, str]:
    """Shorten each path to its last part, unless another path has the same one."""
    last = [path.rpartition("/")[2] for path in paths]
    return {
        path: name if last.count(name) == 1 else path
        for path, name in zip(paths, last, strict=True)
    }


def _parallel(
    trials: Sequence[FrozenTrial], names: Mapping[str, str], criterion: str
) -> go.Figure:
    """Return Optuna's figure with colours that are distinguishable on a dark page too."""
    figure = _plain(plot_parallel_coordinate(_study(trials, names), target_name=criterion))
    values = [_criterion(trial) for trial in trials]
    low, high = min(values), max(values)
    shades = sample_colorscale(
        [list(stop) for stop in SCALE], [(value - low) / ((high - low) or 1.0) for value in values]
    )
    for trace, shade in zip(figure.data, shades, strict=False):
        trace.update(line={"color": shade, "width": 1.5}, opacity=0.8)
    figure.data[-1].marker.colorscale = SCALE
    figure.for_each_annotation(lambda text: text.update(font={"color": None}))
    return figure


def timeline_cards(trials: Sequence[FrozenTrial]) -> Iterator[Card]:
    """Draw when each trial ran, including running ones."""
    begun = [trial for trial in trials if trial.datetime_start is not None]
    if begun:
        left_out = f" The last {MAX_BARS} of {len(begun)} trials." if len(begun) > MAX_BARS else ""
        figure = _plain(plot_timeline(_study(begun), n_recent_trials=MAX_BARS))
        figure.for_each_trace(lambda bars: bars.update(marker={"color": STATES[bars.name]}))
        yield Card("Timeline of the search", figure, f"PRUNED: stopped early.{left_out}")


def _plain(figure: go.Figure) -> go.Figure:
    """Remove Optuna's title and background, which the page replaces by its own."""
    return figure.update_layout(title=None, plot_bgcolor=None)
