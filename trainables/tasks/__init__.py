"""Tasks by name. A new one is a file here and a line in the table."""

from trainables.tasks.base import Domains, Task, TaskConfig
from trainables.tasks.digits import Digits
from trainables.tasks.folders import Folders

TASKS: dict[str, type[Task]] = {
    "digits": Digits,
    "folders": Folders,
}

__all__ = ["Digits", "Domains", "Folders", "TASKS", "Task", "TaskConfig"]
