"""Tasks by name. A new one is a file here and a line in the table."""

from trainables.tasks.base import Domains, Task, TaskConfig

TASKS: dict[str, type[Task]] = {}

__all__ = ["Domains", "TASKS", "Task", "TaskConfig"]
