"""Line-based files that are appended to, and that a crash may have cut off."""

from pathlib import Path


def cut_torn_line(path: Path) -> None:
    """Remove the last line of a file if it has no line end: a crash cut it off."""
    content = path.read_bytes()
    whole, newline, torn = content.rpartition(b"\n")
    if torn:
        with path.open("r+b") as file:
            file.truncate(len(whole) + len(newline))
