"""Figures drawn from a study's records: curves, classes, criteria, cost."""

from collections.abc import Iterator, Mapping, Sequence

import plotly.graph_objects as go

from study.analysis.comparison import Spread
from study.reporting.html.cards import COLOURS, Card, colours, thinned
from study.storage.study_folder import StudyFolder
from study.trials.final_runs import finals_of
from study.trials.ranking import Rank, winners
from study.trials.records import TrialRecord
from trainables.training.report import CRITERION_PREFIX, ORACLE_ACCURACY, SOURCE_ACCURACY

MAX_CURVES = 120
"""Maximum number of search trials whose curves are drawn."""
MAX_POINTS = 200
"""Maximum number of points of a curve."""
MAX_DOTS = 3000
"""Maximum number of dots of a scatter plot."""
OBJECTIVE = "objective"
"""The name of an evaluation's objective among its metrics."""
ORACLE_TITLE = "oracle (target-val accuracy, %)"


# Learning curves


def curve_cards(
    records: Sequence[TrialRecord], criterion: str, standing: Mapping[str, Rank] | None = None
) -> Iterator[Card]:
    """Draw what was measured over epochs, in the final runs and in the search.

    Args:
        records: The records of one task.
        criterion: The name of the criterion that selected checkpoints.
        standing: See :func:`study.trials.ranking.winners`.
    """
    yield from _final_curves(measured_runs(records, standing), criterion)
    yield from _search_curves([r for r in records if r.stage == "search"], criterion)


def measured_runs(
    records: Sequence[TrialRecord], standing: Mapping[str, Rank] | None
) -> list[TrialRecord]:
    """Return the winners' complete final runs or, if there are none, the tested winners."""
    best = winners(records, standing).values()
    return finals_of(best, records) or [winner for winner in best if winner.test]


def _final_curves(finals: Sequence[TrialRecord], criterion: str) -> Iterator[Card]:
    """Draw each metric of the final runs over epochs, one line per seed."""
    metrics = {
        _metric(finals, criterion): (criterion, 1),
        SOURCE_ACCURACY: ("source-val accuracy (%)", 100),
        ORACLE_ACCURACY: (ORACLE_TITLE, 100),
    }
    for metric, (title, factor) in metrics.items():
        curves = [(run, _curve(run, metric, factor)) for run in finals]
        curves = [(run, curve) for run, curve in curves if curve]
        if curves:
            yield Card(
                f"Final runs: {title}",
                _lines(curves, title),
                f"One line per seed; the large dot is the checkpoint that {criterion} selected.",
            )


def _search_curves(search: Sequence[TrialRecord], criterion: str) -> Iterator[Card]:
    """Draw the criterion over epochs in trials of the search."""
    ranked = sorted((r for r in search if r.evaluations), key=lambda r: -(r.objective or 0.0))
    shown = thinned(ranked, MAX_CURVES)
    curves = [(run, _curve(run, _metric(shown, criterion), 1)) for run in shown]
    if curves:
        left_out = (
            f" {len(shown)} of {len(ranked)} trials, from the best to the worst."
            if len(shown) < len(ranked)
            else ""
        )
        yield Card(
            f"Search: {criterion}",
            _lines(curves, criterion),
            f"One line per trial; short ones were pruned.{left_out}",
        )


def _metric(runs: Sequence[TrialRecord], criterion: str) -> str:
    """Return the criterion's metric; an average of ranks has none, so the objective stands in."""
    metric = f"{CRITERION_PREFIX}{criterion}"
    return metric if any(metric in run.selected() for run in runs) else OBJECTIVE


Curve = list[tuple[float, float, bool]]
"""Epoch, value and whether it is the selected checkpoint."""


def _curve(run: TrialRecord, metric: str, factor: float) -> Curve:
    points = [
        (e.epoch, factor * values[metric], e.evaluation == run.best_evaluation)
        for e in run.evaluations
        if metric in (values := {**e.metrics, OBJECTIVE: e.objective})
    ]
    if len(points) <= MAX_POINTS:
        return points
    return sorted({*thinned(points, MAX_POINTS), *(point for point in points if point[2])})


def _lines(curves: Sequence[tuple[TrialRecord, Curve]], title: str) -> go.Figure:
    """Draw all curves of a condition in one trace, with gaps, since many traces are slow."""
    figure = go.Figure()
    colour = colours(run.condition for run, _ in curves)
    for condition in colour:
        own = [(run, curve) for run, curve in curves if run.condition == condition]
        x: list[float | None] = []
        y: list[float | None] = []
        text: list[str | None] = []
        for run, curve in own:
            x += [*(epoch for epoch, _, _ in curve), None]
            y += [*(value for _, value, _ in curve), None]
            text += [*(run.id for _ in curve), None]
        chosen = [(run.id, point) for run, curve in own for point in curve if point[2]]
        figure.add_scatter(
            x=x,
            y=y,
            text=text,
            mode="lines+markers",
            name=condition,
            legendgroup=condition,
            line={"color": colour[condition], "width": 1.2},
            marker={"size": 3},
            opacity=0.85 if len(curves) < 30 else 0.5,
            hovertemplate="%{text}: %{y:.4g} at epoch %{x:.3g}",
        )
        figure.add_scatter(
            x=[point[0] for _, point in chosen],
            y=[point[1] for _, point in chosen],
            text=[name for name, _ in chosen],
            mode="markers",
            name=condition,
            legendgroup=condition,
            showlegend=False,
            marker={"size": 8, "color": colour[condition]},
            hovertemplate="%{text}: %{y:.4g} at epoch %{x:.3g}, selected",
        )
    return figure.update_layout(xaxis_title="epoch", yaxis_title=title)


# Classes


def class_cards(
    records: Sequence[TrialRecord],
    study_folder: StudyFolder,
    standing: Mapping[str, Rank] | None = None,
) -> Iterator[Card]:
    """Draw the accuracy of each class and the confusion of classes for each test set.

    Args:
        records: The records of one task.
        study_folder: The study's folder, which holds the final runs' confusion matrices.
        standing: See :func:`study.trials.ranking.winners`.
    """
    finals = measured_runs(records, standing)
    sets = dict.fromkeys(name for run in finals for name in run.test_sets())
    for test_set in reversed(sets):  # the target's is the last that tasks name
        counts: dict[str, list[list[list[int]]]] = {}
        classes: list[str] = []
        for run in finals:
            found = study_folder.files(run.id).read_confusion(test_set)
            if found is not None:
                classes = found[0]
                counts.setdefault(run.condition, []).append(found[1])
        if counts:
            yield _class_accuracies(test_set, classes, counts)
            yield _confusion(test_set, classes, counts)


Counts = Mapping[str, Sequence[Sequence[Sequence[int]]]]
"""Confusion matrices of each seed, by condition."""


def _class_accuracies(test_set: str, classes: Sequence[str], counts: Counts) -> Card:
    figure = go.Figure()
    colour = colours(counts)
    for condition, matrices in counts.items():
        spreads = [
            Spread(
                tuple(100 * matrix[i][i] / sum(matrix[i]) for matrix in matrices if sum(matrix[i]))
            )
            for i in range(len(classes))
        ]
        figure.add_scatter(
            x=list(classes),
            y=[s.mean if s.values else None for s in spreads],
            error_y={"array": [s.std if s.values else None for s in spreads], "thickness": 1},
            mode="markers",
            name=condition,
            marker={"color": colour[condition], "size": 8},
            hovertemplate="%{x}: %{y:.1f} ± %{error_y.array:.1f} %",
        )
    figure.update_layout(
        scattermode="group",
        scattergap=0.4,
        yaxis_range=[0, 103],
        yaxis_title="accuracy (%)",
        xaxis_type="category",
    )
    return Card(
        f"Accuracy of each class on {test_set}",
        figure,
        "Mean and std over final seeds.",
        wide=len(classes) > 12,
    )


def _confusion(test_set: str, classes: Sequence[str], counts: Counts) -> Card:
    """Draw shares of each true class over all seeds; a menu chooses the condition."""
    figure = go.Figure()
    for number, (condition, matrices) in enumerate(counts.items()):
        total = [
            [sum(matrix[i][j] for matrix in matrices) for j in range(len(classes))]
            for i in range(len(classes))
        ]
        shares = [[100 * n / max(sum(row), 1) for n in row] for row in total]
        figure.add_heatmap(
            x=list(classes),
            y=list(classes),
            z=shares,
            customdata=total,
            name=condition,
            visible=number == 0,
            zmin=0,
            zmax=100,
            xgap=1,
            ygap=1,
            colorscale=[[0, "rgba(59,130,246,0.04)"], [1, "rgba(59,130,246,1)"]],
            colorbar={"title": "% of class", "thickness": 12},
            texttemplate="%{z:.0f}" if len(classes) <= 12 else None,
            hovertemplate="%{y} taken for %{x}: %{customdata} images, %{z:.1f} %",
        )
    side = max(460, 90 + 16 * len(classes))
    figure.update_layout(
        height=side,
        updatemenus=[_menu(list(counts))],
        xaxis={"type": "category", "title": "predicted class", "showgrid": False},
        yaxis={
            "type": "category",
            "title": "true class",
            "autorange": "reversed",
            "showgrid": False,
        },
    )
    return Card(
        f"Confusion on {test_set}", figure, "Sums over final seeds.", wide=len(classes) > 20
    )


def _menu(names: Sequence[str]) -> dict[str, object]:
    """Return a menu that shows one trace at a time."""
    return {
        "x": 0,
        "xanchor": "left",
        "y": 1.02,
        "yanchor": "bottom",
        "buttons": [
            {"label": name, "method": "restyle", "args": ["visible", [n == name for n in names]]}
            for name in names
        ],
    }


# Criteria


def criterion_cards(records: Sequence[TrialRecord]) -> Iterator[Card]:
    """Draw criteria against accuracy on labelled target images; a menu chooses the criterion."""
    looks = [
        (run, e)
        for run in records
        if run.stage == "search"
        for e in run.evaluations
        if ORACLE_ACCURACY in e.metrics
    ]
    shown = thinned(looks, MAX_DOTS)
    names = sorted(
        {
            name
            for _, e in shown
            for name in e.metrics
            if name.startswith(CRITERION_PREFIX) and name != ORACLE_ACCURACY
        }
    )
    if not names:
        return
    figure = go.Figure()
    colour = colours(run.condition for run, _ in shown)
    for name in names:
        for condition in colour:
            own = [
                (run, e) for run, e in shown if run.condition == condition and name in e.metrics
            ]
            figure.add_scattergl(
                x=[e.metrics[name] for _, e in own],
                y=[100 * e.metrics[ORACLE_ACCURACY] for _, e in own],
                text=[f"{run.id}, epoch {e.epoch:.3g}" for run, e in own],
                mode="markers",
                name=condition,
                marker={"color": colour[condition], "size": 6, "opacity": 0.85},
                visible=name == names[0],
                hovertemplate="%{text}<br>%{x:.4g}, oracle %{y:.1f} %",
            )
    menu = _menu(names)
    menu["buttons"] = [
        {
            "label": name.removeprefix(CRITERION_PREFIX),
            "method": "update",
            "args": [
                {"visible": [other == name for other in names for _ in colour]},
                {"xaxis.title.text": name.removeprefix(CRITERION_PREFIX)},
            ],
        }
        for name in names
    ]
    figure.update_layout(
        updatemenus=[menu],
        yaxis_title=ORACLE_TITLE,
        xaxis_title=names[0].removeprefix(CRITERION_PREFIX),
    )
    left_out = f" {len(shown)} of {len(looks)}." if len(shown) < len(looks) else ""
    yield Card(
        "Criterion against accuracy",
        figure,
        "A dot is an evaluation of a trial of the "
        "search; accuracy is the oracle's, on labelled target-val images, and steered "
        f"nothing unless the oracle was the criterion.{left_out}",
    )


# Cost


def cost_cards(records: Sequence[TrialRecord]) -> Iterator[Card]:
    """Draw the processor time of each condition."""
    conditions = sorted({record.condition for record in records}, reverse=True)
    figure = go.Figure()
    for stage, name, colour in (
        ("search", "search", COLOURS[0]),
        ("final", "final runs", COLOURS[1]),
    ):
        seconds = [
            sum(r.cpu_seconds for r in records if r.condition == c and r.stage == stage)
            for c in conditions
        ]
        figure.add_bar(
            y=conditions,
            x=[s / 60 for s in seconds],
            orientation="h",
            name=name,
            marker={"color": colour},
            hovertemplate="%{y}: %{x:.1f} min",
        )
    figure.update_layout(
        barmode="stack", xaxis_title="CPU minutes", height=160 + 42 * len(conditions)
    )
    cpu, wall = (
        sum(seconds) / 60
        for seconds in (
            [record.cpu_seconds for record in records],
            [record.seconds for record in records],
        )
    )
    yield Card(
        "Cost",
        figure,
        f"Processor time of training and evaluation, {cpu:.1f} min in all; "
        f"the trials' wall-clock times add up to {wall:.1f} min.",
    )
