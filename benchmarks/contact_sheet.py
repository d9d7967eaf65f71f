"""Draws examples of the embedded task ``digits``: one row a digit, one block a kind of picture.

python -m benchmarks.contact_sheet docs/digits.png
"""

import argparse
import tempfile
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps

from trainables.data.images import LabelledImages
from trainables.tasks import Digits, Domains

ZOOM = 2
"""Side in pixels that a picture's pixel is drawn with."""
BITS = 5
"""Of a colour channel that are kept."""
COLUMNS = 6
"""Examples of a digit in a block."""
GAP = 20
"""Between blocks, in pixels."""
MARGIN = 36
"""For the names of rows and blocks, in pixels."""


def blocks(domains: Domains) -> dict[str, LabelledImages]:
    """Return the images to show, by the name of the block."""
    assert domains.target_val is not None
    return {
        "source: rendered": domains.test_sets["IID"],
        "the same without background": domains.test_sets["IID_wo_BG"],
        "target: scans": domains.target_val,  # the training set has no labels to sort by
    }


def examples(samples: LabelledImages, digit: int) -> Image.Image:
    """Return the first pictures of a digit, side by side."""
    indices = (samples.labels == digit).nonzero()[:COLUMNS, 0].tolist()
    strip = torch.cat([samples.images[index] for index in indices], dim=2)
    # With all 8 bits of noise a colour the file would be twice as large.
    image = ImageOps.posterize(Image.fromarray(strip.permute(1, 2, 0).numpy()), BITS)
    return image.resize((image.width * ZOOM, image.height * ZOOM), Image.Resampling.NEAREST)


def draw(domains: Domains) -> Image.Image:
    """Return the whole sheet."""
    size = ZOOM * domains.geometry.crop_size
    shown = blocks(domains)
    stride = COLUMNS * size + GAP
    sheet = Image.new(
        "RGB", (MARGIN + len(shown) * stride - GAP, MARGIN + len(domains.classes) * size), "white"
    )
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(20)
    for column, (name, samples) in enumerate(shown.items()):
        left = MARGIN + column * stride
        pen.text((left + stride // 2 - GAP // 2, MARGIN // 2), name, "black", font, anchor="mm")
        for row in range(len(domains.classes)):
            sheet.paste(examples(samples, row), (left, MARGIN + row * size))
    for row, name in enumerate(domains.classes):
        pen.text((MARGIN // 2, MARGIN + row * size + size // 2), name, "black", font, anchor="mm")
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("output", type=Path, help="PNG file to write")
    output: Path = parser.parse_args().output
    with tempfile.TemporaryDirectory() as cache:
        domains = Digits.load(Digits.Config(num_source=100, num_test=100), Path(cache))
        output.parent.mkdir(parents=True, exist_ok=True)
        draw(domains).save(output, optimize=True)


if __name__ == "__main__":
    main()
