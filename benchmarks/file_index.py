"""What an index of 12.8 M files costs to make and to open: ``python -m benchmarks.file_index``.

The index is real and the files are not: names as SynSL's are made up for ten real folders. Every
figure is of a process of its own, which opens the task ``synsl`` with its split, as a trial does.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from trainables.configuration.schema import validate
from trainables.data.file_index import ListedFolder, open_index
from trainables.data.images import ImageSubset
from trainables.tasks import SynSL
from trainables.tasks.published._ten_classes import TEN_CLASSES

NUM_READS = 100_000
"""Paths that are looked up at random, as training does."""
MAX_SECONDS, MAX_MEGABYTES = 1.0, 100.0
"""Of opening."""


def made_up(root: Path, per_class: int) -> Iterator[ListedFolder]:
    yield ListedFolder(b"", root.stat().st_mtime_ns, [])
    for name in TEN_CLASSES.names:
        yield ListedFolder(
            name.encode(),
            (root / name).stat().st_mtime_ns,
            [b"%s_render_%08d.jpg" % (name.encode(), number) for number in range(per_class)],
        )


def prepare(folder: Path, per_class: int) -> None:
    for tree in ("SynSL", "test"):
        for name in TEN_CLASSES.names:
            (folder / tree / name).mkdir(parents=True)
    for name in TEN_CLASSES.names:
        Image.new("RGB", (8, 8)).save(folder / "test" / name / "0.png")
    (folder / "cache").mkdir()
    time.sleep(2.1)  # a folder that changed just now is not trusted
    open_index(folder / "SynSL", folder / "cache", lambda root: made_up(root, per_class))


def memory() -> dict[str, float]:
    """Of this process, in MB: all that is resident, and what is not a view of a file.

    Views of files are the kernel's cache: shared by all processes, and given up when memory is
    short.
    """
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    sizes = {line.split(":")[0]: int(line.split()[1]) / 1000 for line in lines}
    return {"resident": sizes["Rss"], "own": sizes["Anonymous"]}


def measure(folder: Path) -> dict[str, float]:
    """Open the task, in a process that has done nothing else."""
    config = validate(SynSL.Config, {"root": str(folder), "test_sets": {"test": "test"}})
    before, start = memory(), time.perf_counter()
    domains = SynSL.load(config, folder / "cache")
    seconds, opened = time.perf_counter() - start, memory()
    source = domains.source_train
    assert isinstance(source.images, ImageSubset)
    start = time.perf_counter()
    for i in range(NUM_READS):
        position = i * 2_654_435_761 % len(source)  # all over the set
        source.images.name(position)
        int(source.labels[position])
    lookups, after = time.perf_counter() - start, memory()
    return {
        "images": float(len(source) + len(domains.source_val)),
        "seconds to open": seconds,
        "MB more resident once open": opened["resident"] - before["resident"],
        "MB more of its own once open": opened["own"] - before["own"],
        "microseconds a look-up": lookups / NUM_READS * 1e6,
        "MB more resident after look-ups": after["resident"] - before["resident"],
        "MB more of its own after look-ups": after["own"] - before["own"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--per-class", type=int, default=1_280_000)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        start = time.perf_counter()
        prepare(folder, options.per_class)
        print(f"index made in {time.perf_counter() - start - 2.1:.1f} s")
        figures: dict[str, float] = {}
        for title in ("first, which draws the split", "another", "a third"):
            figures = json.loads(
                subprocess.run(
                    [sys.executable, "-m", "benchmarks.file_index", "--measure", temporary],
                    check=True,
                    capture_output=True,
                    text=True,
                ).stdout
            )
            print(f"process: {title}")
            for name, value in figures.items():
                print(f"  {name:36}{value:14,.2f}")
        size = sum(file.stat().st_size for file in (folder / "cache").iterdir())
        print(f"on disk: {size / 1e6:,.0f} MB")
    fits = (
        figures["seconds to open"] < MAX_SECONDS
        and figures["MB more resident once open"] < MAX_MEGABYTES
    )
    print("holds" if fits else "FAILS", f"< {MAX_SECONDS} s and < {MAX_MEGABYTES} MB to open")
    return 0 if fits else 1


if __name__ == "__main__":
    sys.exit(main())
