"""Compare a download with the published data: ``python -m trainables.tasks.check``."""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from trainables.configuration.command import command
from trainables.configuration.schema import ConfigError, validate
from trainables.data.file_index import walk_images
from trainables.data.image_files import damage_of, first_of
from trainables.tasks import TASKS
from trainables.tasks.published._class_list import LEFT_OUT
from trainables.tasks.published.base import Part, PublishedTask

AS_PUBLISHED, DIFFERENT = 0, 1
"""Exit codes; 2 says that the data could not be checked."""

_CHUNK = 1024
"""Images to decode between updates of the progress bar."""

Advance = Callable[[int], None]


@dataclass
class Finding:
    """Result of the comparison for one part."""

    part: Part
    counts: Counter[str] = field(default_factory=Counter)
    """Number of images found, by class."""
    expected: Counter[str] = field(default_factory=Counter)
    """Number of images expected, by class, as far as it is published or listed."""
    problems: list[str] = field(default_factory=list)
    """Messages about missing, wrong or damaged images and folders."""
    remarks: list[str] = field(default_factory=list)
    """Messages about harmless differences."""


def inspect(part: Part, advance: Advance, decode: bool = False) -> Finding:
    """Compare one part of a download with the published data.

    Args:
        part: Part of the download.
        advance: Function called with the number of images found, or decoded, since its last call.
        decode: Decode every image as well.
    """
    finding = Finding(part, expected=Counter(part.published))
    wanted: set[str] | None = None
    try:
        if part.split is not None:
            wanted = set(part.split.read(part.classes))
            finding.expected = Counter(_class_of(part, path) for path in wanted)
        root = part.locate()
    except ValueError as error:
        finding.problems.append(str(error))
        return finding
    groups, damages, missing, unlisted = set[str](), list[str](), set(wanted or ()), 0
    for folder in walk_images(root):
        place = folder.path.decode(errors="surrogateescape")
        group = place.split("/")[0]
        names = [name.decode(errors="surrogateescape") for name in folder.images]
        paths = [f"{place}/{name}" if place else name for name in names]
        chosen = paths if wanted is None else [path for path in paths if path in wanted]
        unlisted += len(paths) - len(chosen)
        if paths:
            groups.add(group)
        if chosen and part.classes.label(group) not in (None, LEFT_OUT):
            finding.counts[_class_of(part, place)] += len(chosen)
            missing.difference_update(chosen)
            damages += _damages(root, chosen, advance) if decode else []
            advance(0 if decode else len(chosen))
    _compare(finding, root, sorted(groups))
    if missing:
        finding.problems.append(
            f"{part.role}: {len(missing)} listed images are missing from "
            f"{root}:\n{first_of(sorted(missing))}"
        )
    if unlisted:
        finding.remarks.append(
            f"{part.role}: {unlisted} images of {root} are in other lists or in none."
        )
    if damages:
        finding.problems.append(first_of(damages))
    return finding


def _class_of(part: Part, path: str) -> str:
    label = part.classes.label(path.split("/")[0])
    assert label is not None
    return part.classes.names[label]


def _compare(finding: Finding, root: Path, groups: list[str]) -> None:
    part = finding.part
    try:
        part.classes.labels(part.role, root, groups)
    except ValueError as error:
        finding.problems.append(str(error))
    wrong = sum(finding.counts[name] != count for name, count in finding.expected.items())
    if wrong:
        finding.problems.append(
            f"{part.role}: {wrong} classes have another number of images than "
            "is published: see the table."
        )
    # For a split file, compare the list itself: its images are compared above.
    total = sum((finding.counts if part.split is None else finding.expected).values())
    if part.published_total not in (None, total):
        what = root if part.split is None else part.split.find()
        finding.problems.append(
            f"{part.role}: {what} must hold {part.published_total} images, got {total}."
        )


def _damages(root: Path, paths: list[str], advance: Advance) -> list[str]:
    """Decode images; return error messages of the unreadable ones."""
    damages = []
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(paths), _CHUNK):
            chunk = [root / path for path in paths[start : start + _CHUNK]]
            damages += [damage for damage in pool.map(damage_of, chunk) if damage is not None]
            advance(len(chunk))
    return damages


def table_of(findings: Sequence[Finding]) -> Table:
    """Return counts by class and part, with the published count where it differs."""
    table = Table("class", title="images found")
    for finding in findings:
        table.add_column(finding.part.role, justify="right")
    names = dict.fromkeys(
        name
        for finding in findings
        for name in finding.part.classes.names
        if finding.counts[name] or finding.expected[name]
    )
    for name in names:
        table.add_row(
            name,
            *(_cell(finding.counts[name], finding.expected.get(name)) for finding in findings),
        )
    table.add_section()
    table.add_row(
        "all", *(_cell(sum(finding.counts.values()), _total(finding)) for finding in findings)
    )
    return table


def _total(finding: Finding) -> int | None:
    return finding.part.published_total or sum(finding.expected.values()) or None


def _cell(count: int, expected: int | None) -> str:
    if expected is None:
        return f"{count:,}"
    return f"[green]{count:,}[/]" if count == expected else f"[red]{count:,} of {expected:,}[/]"


@command()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        Exit code: 0 if the data are as published, 1 if something is missing or different, 2 if
        they could not be checked.
    """
    options = _parser().parse_args(arguments)
    console = Console()
    try:
        findings = _inspect_all(options, console)
    except (ValueError, OSError) as error:
        raise ValueError(f"{options.task}: {error}") from error
    console.print(table_of(findings))
    for finding in findings:
        for remark in finding.remarks:
            console.print(remark, style="yellow", markup=False, highlight=False)
        for problem in finding.problems:
            console.print(problem, style="red", markup=False, highlight=False)
    if any(finding.problems for finding in findings):
        return DIFFERENT
    console.print(
        "All that is published is there."
        if all(map(_total, findings))
        else "All classes are there. Columns without colour have no published numbers."
    )
    return AS_PUBLISHED


def _inspect_all(options: argparse.Namespace, console: Console) -> list[Finding]:
    entry = TASKS.look_up(options.task)
    if not issubclass(entry, PublishedTask):
        known = ", ".join(name for name, task in TASKS.items() if issubclass(task, PublishedTask))
        raise ValueError(f"--task: must be one of {known}, got {options.task}.")
    settings = dict(setting.split("=", 1) for setting in options.set if "=" in setting)
    if len(settings) < len(options.set):
        raise ValueError(f"--set: must be NAME=VALUE, got {' '.join(options.set)}.")
    try:
        config = validate(
            entry.Config, settings | ({"root": options.data} if options.data else {})
        )
    except ConfigError as error:
        raise ValueError(str(error)) from error
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
    findings = []
    with bar:
        for part in entry.layout(config).parts():
            row = bar.add_task(part.role, total=_expected_total(part))
            findings.append(inspect(part, _advance(bar, row), options.decode))
    return findings


def _expected_total(part: Part) -> int | None:
    return part.published_total or sum(part.published.values()) or None


def _advance(bar: Progress, row: TaskID) -> Advance:
    return lambda count: bar.advance(row, count)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trainables.tasks.check",
        description=__doc__.split(":")[0] + ".",
        epilog="Exit code: 0 as published, 1 something missing or different, 2 could not check.",
    )
    parser.add_argument("--task", required=True, help="name of the task, for instance s2rda49")
    parser.add_argument(
        "--data", metavar="DIR", help="data root; else the environment variable SYN2REAL_DATA"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of the task, for instance splits=DIR or source=synthetic",
    )
    parser.add_argument("--decode", action="store_true", help="read every image, too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
