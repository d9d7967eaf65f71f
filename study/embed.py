"""Draws the features of a study's winners in the plane: ``python -m study.embed STUDY``.

The features are the pooled ones of held-out source images and labelled target images, by the first
final run of each condition. They are drawn by t-SNE (``embedding-<condition>.png``, also among
TensorBoard's images) and written for TensorBoard's projector. Target labels, which only the oracle
may read, merely colour the dots; if the target has none, predicted classes do.
"""

import argparse
import sys

from study.reporting.embedding import embed_winners
from study.storage.locations import local_copies
from study.storage.study_folder import StudyFolder
from trainables.checkpointing.object_store import StoreError
from trainables.configuration.command import command


@command(bad_input=(ValueError, StoreError))
def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit code: 0 for success, 2 for invalid input."""
    parser = argparse.ArgumentParser(
        prog="python -m study.embed", description="Draw the features of a study's winners."
    )
    parser.add_argument("study", help="a study's folder, or its URI in an object store")
    options = parser.parse_args(arguments)
    with local_copies([options.study]) as (folder,):
        for picture in embed_winners(StudyFolder.at(folder)):
            print(picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
