"""Measures how large the checkpoints of each method are.

python -m benchmarks.checkpoints [--backbone NAME] [--classes N]

Each method runs for one step on a few small pictures of noise and saves what it saves after every
evaluation: ``best.pt``, the networks, where the criterion is better than before, and
``latest.pt``, all that a trial needs to go on. SRDC's ``latest.pt`` also holds 4 bytes for each
source image and 8 for each target image, of which there are few here.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from trainables.checkpointing.trial_folder import TrialFolder
from trainables.configuration.schema import validate
from trainables.methods import METHODS
from trainables.training.trial import run_trial
from trainables.trial_config import TrialConfig

IMAGES = 4
"""In each class of each domain."""


def write_noise(root: Path, num_classes: int) -> None:
    pixels = np.random.default_rng(0)
    for label in range(num_classes):
        folder = root / f"class{label:03d}"
        folder.mkdir(parents=True)
        for image in range(IMAGES):
            Image.fromarray(pixels.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(
                folder / f"{image}.png"
            )


def sizes(method: str, backbone: str, data: Path, folder: Path) -> tuple[int, int]:
    """Bytes of a method's ``best.pt`` and ``latest.pt``."""
    config = validate(
        TrialConfig,
        {
            "task": {
                "folders": {
                    "source": str(data / "source"),
                    "target": str(data / "target"),
                    "image_size": 32,
                }
            },
            "method": method,
            "backbone": backbone,
            "batch_size": 8,
            "schedule": {"num_epochs": None, "num_steps": 1},
            "selection": {"source_accuracy_floor": 0.0},
            "evaluation": {"max_images": 50},
        },
    )
    for _ in run_trial(config, folder, data):
        pass
    files = TrialFolder(folder)
    return files.best.stat().st_size, files.latest.stat().st_size


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how large checkpoints are.")
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--classes", type=int, default=49)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        for domain in ("source", "target"):
            write_noise(data / domain, options.classes)
        for method in METHODS:
            best, latest = sizes(method, options.backbone, data, data / method)
            print(
                f"{method:16} best.pt {best / 1e6:7.1f} MB  latest.pt {latest / 1e6:7.1f} MB",
                flush=True,
            )


if __name__ == "__main__":
    main()
