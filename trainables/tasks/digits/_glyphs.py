"""Shapes of the digits, from the fonts shipped with matplotlib."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSans-BoldOblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSansMono-Oblique",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-Italic",
    "DejaVuSerif-BoldItalic",
    "STIXGeneral",
    "STIXGeneralBol",
    "STIXGeneralItalic",
    "STIXGeneralBolIta",
    "cmr10",
    "cmb10",
    "cmss10",
    "cmtt10",
)
GLYPH_SIZE = 64
"""Side of a glyph's square in pixels."""
_LONGER_SIDE = 46
"""Longer side of a digit in its square, in pixels; the rest is margin."""
_FONT_SIZE = 120
"""Font size in pixels at which outlines are drawn before they are scaled down."""
_BEVEL_WIDTH = 4
"""Distance from the edge, in pixels, over which the surface rises to full height."""


def draw_glyphs() -> NDArray[np.float32]:
    """Draw every digit in every font.

    Returns:
        Coverage of each pixel and height of the surface there, both from 0 to 1, shape
        ``(fonts, 10, 2, 64, 64)``.
    """
    # Imported here: it is slow, and most pictures are read from the cache.
    from matplotlib import get_data_path

    folder = Path(get_data_path()) / "fonts" / "ttf"
    glyphs = []
    for name in FONTS:
        font = ImageFont.truetype(folder / f"{name}.ttf", _FONT_SIZE)
        coverages = [_coverage(str(digit), font) for digit in range(10)]
        glyphs.append([np.stack([c, _rounded_relief(c)]) for c in coverages])
    return np.array(glyphs, dtype=np.float32)


def _coverage(digit: str, font: ImageFont.FreeTypeFont) -> NDArray[np.float32]:
    """Draw a digit scaled to its square and centred in it, shape ``(64, 64)``."""
    left, top, right, bottom = (round(edge) for edge in font.getbbox(digit))
    outline = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(outline).text((-left, -top), digit, fill=255, font=font)
    zoom = _LONGER_SIDE / max(outline.size)
    outline = outline.resize(
        (max(2, round(outline.width * zoom)), max(2, round(outline.height * zoom))),
        Image.Resampling.LANCZOS,
    )
    square = Image.new("L", (GLYPH_SIZE, GLYPH_SIZE))
    square.paste(outline, ((GLYPH_SIZE - outline.width) // 2, (GLYPH_SIZE - outline.height) // 2))
    return np.asarray(square).astype(np.float32) / np.float32(255)


def _rounded_relief(coverage: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a plateau with a rounded bevel as heights, shape ``(64, 64)``."""
    from scipy.ndimage import distance_transform_edt, gaussian_filter

    distance = distance_transform_edt(coverage > 0.5)
    relief: NDArray[np.float32] = gaussian_filter(
        np.sqrt(np.minimum(distance / _BEVEL_WIDTH, 1)), 1.0
    ).astype(np.float32)
    return relief
