"""The output of ``--dry-run`` and ``--list``."""

from collections.abc import Sequence

import optuna
from rich.console import Console
from rich.table import Table

from study.config.reading import question_of, read_studies, shipped_spaces
from study.config.study_config import StudyConfig
from trainables.trial_config import TrialConfig


def print_spaces(console: Console) -> None:
    """Print the spaces that ship with the project and their questions."""
    table = Table(box=None, header_style="bold")
    table.add_column("space", no_wrap=True)
    table.add_column("question")
    for name, path in shipped_spaces().items():
        table.add_row(name, question_of(path))
    console.print(table)


def print_plan(space: str, overrides: list[str], console: Console) -> None:
    """Print the searched values, three example trials and the study's maximum cost."""
    studies = read_studies(space, overrides)
    study, search_space = studies[0]
    parameters = search_space.tree.parameters()
    table = Table(
        title=f"{len(parameters)} searched values", title_justify="left", header_style="bold"
    )
    table.add_column("name")
    table.add_column("values")
    for name, distribution in parameters.items():
        values = getattr(distribution, "choices", None)
        if values is None:
            scale = " (log)" if getattr(distribution, "log", False) else ""
            table.add_row(
                name,
                f"{getattr(distribution, 'low')} … {getattr(distribution, 'high')}{scale}",  # noqa: B009
            )
        else:
            table.add_row(name, ", ".join(str(value) for value in values))
    console.print(table)
    sampler = optuna.samplers.RandomSampler(seed=study.seed)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    memory = optuna.create_study(sampler=sampler)
    for number in range(3):
        trial = memory.ask()
        config = search_space.sample(trial)
        shown = ", ".join(
            f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in trial.params.items()
        )
        console.print(f"example {number + 1}: {shown or 'nothing is searched'}", markup=False)
    num_conditions = len(study.conditions(search_space).combinations)
    tasks = [name for each, _ in studies for name in each.task_names]
    console.print(_cost(study, num_conditions, config, tasks), markup=False)


def _cost(
    study: StudyConfig, num_conditions: int, config: TrialConfig, tasks: Sequence[str]
) -> str:
    schedule = config.schedule
    length = (
        f"{schedule.num_epochs} epochs" if schedule.num_epochs else f"{schedule.num_steps} steps"
    )
    of_tasks = f" each of the tasks {', '.join(tasks)}" if len(tasks) > 1 else ""
    each = f" for{of_tasks}" if of_tasks and study.joint is None else ""
    on_each = f" on{of_tasks}" if study.joint else ""
    return (
        f"cost{each}: at most {study.num_trials} trials × {length}{on_each}, and "
        f"{study.final_seeds} final runs for each of {num_conditions} conditions{on_each}. "
        "Nothing was run."
    )
