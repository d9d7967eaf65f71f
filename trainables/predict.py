"""Classify images: ``python -m trainables.predict MODEL IMAGES… [--csv FILE]``.

MODEL is a folder that ``python -m study.export`` has written; IMAGES are files, or folders that
are searched for images. Neither Ray nor the study nor its data are needed. From Python, use
:func:`trainables.load_model`.
"""

import argparse
import csv
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track

from trainables.configuration.command import command
from trainables.inference.classifier import Classified, Classifier, load_model
from trainables.tasks import find_images


@command()
def main(arguments: list[str] | None = None) -> int:
    """Run the command; return 0 if done, 1 if no image could be read, 2 for bad input."""
    options = _parser().parse_args(arguments)
    images = _images(options.images)
    model = load_model(options.model, _device(options.device))
    return _predict(model, images, options.batch_size, options.csv)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trainables.predict", description="Classify images with a model."
    )
    parser.add_argument(
        "model", type=Path, metavar="MODEL", help="a folder written by python -m study.export"
    )
    parser.add_argument(
        "images",
        type=Path,
        nargs="+",
        metavar="IMAGES",
        help="files, or folders that are searched for images",
    )
    parser.add_argument(
        "--csv",
        type=Path,
        metavar="FILE",
        help="write image, class, probability there instead of printing them",
    )
    parser.add_argument(
        "--batch-size",
        type=_positive,
        default=64,
        metavar="N",
        help="images of a forward pass; changes speed and memory only (default: %(default)s)",
    )
    parser.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1 … (default: cuda if there is one)"
    )
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be an integer above 0, got {text}.")
    return int(text)


def _device(name: str) -> torch.device:
    """Return the device of a name; ``auto`` is a GPU if there is one.

    Raises:
        ValueError: There is no such device, or it cannot be used.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].removesuffix(".")
        raise ValueError(f"--device {name}: cannot be used: {reason}.") from error
    return device


def _images(paths: Iterable[Path]) -> list[str]:
    """Return the path of every image in files and folders, once each.

    Raises:
        ValueError: A path does not exist, or a folder holds no image.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = [path / file for file in find_images(path)]
            if not inside:
                raise ValueError(f"{path}: the folder holds no images.")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise ValueError(f"{path}: no such file or folder.")
    return [str(path) for path in dict.fromkeys(found)]


def _predict(model: Classifier, images: list[str], batch_size: int, table: Path | None) -> int:
    """Classify images, then print the results or write them; return the exit code.

    Results are printed after the progress bar is gone, since both go to the terminal.
    """
    skipped = 0
    lines = []
    with ExitStack() as stack:
        writer = None
        if table is not None:
            try:
                file = stack.enter_context(table.open("w", newline="", encoding="utf-8"))
            except OSError as error:
                raise ValueError(f"--csv {table}: {error.strerror}.") from error
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("image", "class", "probability"))
        console = Console(stderr=True)
        for result in track(
            model.classify(images, batch_size),
            "Classifying",
            len(images),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        ):
            if not isinstance(result, Classified):
                skipped += 1
                console.print(
                    f"Skipped: {result.reason}", markup=False, highlight=False, soft_wrap=True
                )
            elif writer is not None:
                writer.writerow((result.image, result.label, f"{result.probability:.6f}"))
            else:
                lines.append(f"{result.image}\t{result.label}\t{result.probability:.4f}")
    for line in lines:
        print(line)
    if skipped:
        print(f"{skipped} of {len(images)} images cannot be read.", file=sys.stderr)
    return 1 if skipped == len(images) else 0


if __name__ == "__main__":
    sys.exit(main())
