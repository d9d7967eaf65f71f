"""Files of lines that are appended to, and may have been cut off by a crash."""

from pathlib import Path


def cut_torn_line(path: Path) -> None:
    """Shortens a file of lines whose last one has no end: a crash cut it off."""
    content = path.read_bytes()
    whole, newline, torn = content.rpartition(b"\n")
    if torn:
        with path.open("r+b") as file:
            file.truncate(len(whole) + len(newline))
