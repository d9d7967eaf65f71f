"""Exports a study's winner: ``python -m study.export STUDY [--task T --method M]``.

The winner is the best final run by the study's criterion, or the best one of ``--method``, which
may also be a condition if the study compares something other than methods. The folder holds
``model.safetensors`` (the networks), ``model.yaml`` (the classes and the test transform),
``trial.yaml`` (the configuration that made it) and ``README.md`` (a model card with its figures).
``python -m trainables.predict`` classifies images with it.
"""

import argparse
import sys
from pathlib import Path

from study.reporting.model_export import export
from study.storage.locations import local_copies
from trainables.checkpointing.object_store import StoreError, is_uri
from trainables.configuration.command import command


@command(bad_input=(ValueError, StoreError))
def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit code: 0 for success, 2 for invalid input."""
    parser = argparse.ArgumentParser(
        prog="python -m study.export",
        description="Export a study's winner as a folder with weights, classes, test transform, "
        "configuration and model card.",
    )
    parser.add_argument(
        "study", metavar="STUDY", help="a study's folder, or its URI in an object store"
    )
    parser.add_argument("--task", help="task of the winner; required if the study has several")
    parser.add_argument(
        "--method", help="method or condition of the winner (default: all of them)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder to write to (default: STUDY/export)"
    )
    options = parser.parse_args(arguments)
    if is_uri(options.study) and options.out is None:
        raise ValueError(f"--out: must be given, since {options.study} is in an object store.")
    with local_copies([options.study]) as (study,):
        print(export(study, options.out, options.task, options.method))
    return 0


if __name__ == "__main__":
    sys.exit(main())
