"""Features of a study's winners in the plane: ``python -m study.embed STUDY``.

For the first final run of each condition: pooled features of held-out source images and of
labelled target images, as a t-SNE picture (``embedding-<condition>.png``, also among TensorBoard's
images) and for TensorBoard's projector. The labels of target images (the oracle's) only colour the
dots; where the target has none, predicted classes do.
"""

import argparse
import sys

from study.reporting.embedding import embed_winners
from study.storage.locations import local_copies
from study.storage.study_folder import StudyFolder
from trainables.checkpointing.object_store import StoreError


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code: 0 done, 2 bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m study.embed", description="Draw the features of a study's winners."
    )
    parser.add_argument("study", help="a study's folder, or its URI in a store")
    options = parser.parse_args(arguments)
    try:
        with local_copies([options.study]) as (folder,):
            for picture in embed_winners(StudyFolder.at(folder)):
                print(picture)
    except (ValueError, StoreError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
