"""Tasks by name. A new one is a file here and a line in the table."""

from trainables.tasks.base import Domains, Task, TaskConfig
from trainables.tasks.digits import Digits

TASKS: dict[str, type[Task]] = {
    "digits": Digits,
}

__all__ = ["Digits", "Domains", "TASKS", "Task", "TaskConfig"]
