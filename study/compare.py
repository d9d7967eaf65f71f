"""Compares studies, finished or running: ``python -m study.compare STUDY…``."""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from study.analysis.published import Published
from study.analysis.stored_study import StoredStudy, read_all
from study.reporting.exports import (
    WIDTH,
    as_csv,
    as_json_text,
    as_latex,
    as_terminal_text,
    terminal,
)
from study.storage.locations import local_copies
from trainables.checkpointing.files import write_atomically
from trainables.checkpointing.object_store import StoreError
from trainables.configuration.command import command

FORMATS = ("table", "csv", "latex", "html", "json")
HTML = "comparison.html"
"""The file that HTML is written to by default."""


@command(bad_input=(ValueError, StoreError))
def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit code: 0 for success, 2 for invalid input."""
    options = _parser().parse_args(arguments)
    if options.format not in FORMATS:
        raise ValueError(f"--format: must be one of {', '.join(FORMATS)}, got '{options.format}'.")
    published = Published.read() if options.published else None
    with local_copies(options.studies) as folders:
        _write(read_all(folders), published, options.format, options.out)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m study.compare", description="Compare studies, finished or running."
    )
    parser.add_argument(
        "studies",
        nargs="+",
        metavar="STUDY",
        help="a study's folder, such as runs/digits, or its URI in an object store, such "
        "as s3://bucket/prefix/digits",
    )
    parser.add_argument(
        "--format",
        default="table",
        metavar="|".join(FORMATS),
        help="output format; html is a single file that opens offline (default: %(default)s)",
    )
    parser.add_argument(
        "--published",
        action="store_true",
        help="also show the paper's results, which were selected by oracle",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help=f"file to write instead of the terminal (default for html: {HTML})",
    )
    return parser


def _text(studies: list[StoredStudy], published: Published | None, form: str) -> str:
    """Return the comparison in any format but HTML."""
    if form == "csv":
        return as_csv(studies, published)
    if form == "latex":
        return as_latex(studies, published)
    if form == "json":
        return as_json_text(studies, published)
    return as_terminal_text(studies, published)


def _write(
    studies: list[StoredStudy], published: Published | None, form: str, out: Path | None
) -> None:
    if form == "html":
        from study.reporting.html.page import as_html  # plotly takes a second to import

        out = out or Path(HTML)
        _save(out, as_html(studies, published))
        print(out)
    elif out is not None:
        _save(out, _text(studies, published, form))
    elif form == "table":
        Console(width=None if sys.stdout.isatty() else WIDTH).print(terminal(studies, published))
    else:
        sys.stdout.write(_text(studies, published, form))


def _save(path: Path, text: str) -> None:
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise ValueError(f"{path}: cannot be written ({error.strerror}).") from error


if __name__ == "__main__":
    sys.exit(main())
