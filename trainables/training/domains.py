"""A trial's data, checked against what its method and criteria read."""

from pathlib import Path

from trainables.criteria import CRITERIA, Criterion, LabelReadingCriterion
from trainables.methods import METHODS
from trainables.tasks import TASKS, Domains
from trainables.trial_config import TrialConfig, criteria_of


def open_domains(config: TrialConfig, cache: Path) -> Domains:
    """Open the data of a trial's task.

    Args:
        config: The trial's configuration.
        cache: The folder that trials share.

    Raises:
        ValueError: The data are missing or damaged, or lack what method or criterion read.
    """
    domains = TASKS.look_up(config.task.name).load(config.task.config, cache)
    check_domains(config, domains)
    return domains


def check_domains(config: TrialConfig, domains: Domains) -> None:
    """Raise if a task's data lack what the trial's method and criterion read.

    Raises:
        ValueError: They read a target, or its labels, and the task has none.
    """
    if METHODS.look_up(config.method.name).uses_target and not domains.target_train:
        raise ValueError(
            f"method '{config.method.name}' adapts to a target, and task "
            f"'{config.task.name}' has none."
        )
    usable_criteria(config, domains)


def usable_criteria(
    config: TrialConfig, domains: Domains
) -> dict[str, Criterion | LabelReadingCriterion]:
    """Return every criterion that the task's data allow, by name.

    Raises:
        ValueError: The criterion that selects checkpoints is not among them.
    """
    own = criteria_of(config.selection.criterion)
    entries = {**CRITERIA, **{name: CRITERIA.look_up(name) for name in own}}
    if domains.target_train is None:
        entries = {"source_validation": entries["source_validation"]}
    if domains.target_val is None:
        entries = {name: e for name, e in entries.items() if not e.reads_target_labels}
    for name in own:
        if name not in entries:
            what = "target labels" if domains.target_train else "a target"
            raise ValueError(
                f"criterion '{name}' needs {what}, which task '{config.task.name}' does not have."
            )
    return {name: entry() for name, entry in entries.items()}
