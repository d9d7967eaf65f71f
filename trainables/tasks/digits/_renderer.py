"""Renderer of digits with the paper's five image factors, in batches.

A picture is a function of a seed, the name of a stream and its index in the stream, independent of
the other pictures in the batch. The generator is frozen: any change to what it draws would make
recorded results incomparable, and it must not be tuned on test figures.
"""

import math
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.data.images import Images
from trainables.tasks.digits._canvas import CANVAS_SIZE, Stream, between, canvas_axes
from trainables.tasks.digits._factors import Factors, Scale, Viewpoint
from trainables.tasks.digits._shading import draw_background, draw_light, draw_surface, stand_out

RENDERER_VERSION = 1
"""Version of the pictures. Increase it with any change, here or in a module used here, that
changes a picture: cached pictures of another version are not used."""
IMAGE_SIZE = 32
"""Side of a picture in pixels."""
_FOCAL_LENGTH = 3.0
"""Focal length and distance of the camera, in half sides of the image."""
_WOBBLE = 0.1
"""Standard deviation of the digit's deformation, in half sides of the image."""
_SENSOR_NOISE = 0.02
"""Standard deviation of pixel noise; brightness is from 0 to 1."""


@final
class RenderedImages(Images):
    """The first pictures of a stream, rendered on access.

    No picture is stored, so there can be any number of them.

    Args:
        glyphs: Coverage and height of glyphs, as for :func:`render`.
        stream: Stream of the pictures.
        factors: Settings of the image factors.
        num_images: Number of pictures.
    """

    def __init__(self, glyphs: Tensor, stream: Stream, factors: Factors, num_images: int) -> None:
        self.glyphs = glyphs
        self.stream = stream
        self.factors = factors
        self.num_images = num_images

    def __len__(self) -> int:
        return self.num_images

    def __getitem__(self, index: int) -> Tensor:
        return render(self.glyphs, self.stream, [index], self.factors)[0]


def digits_at(indices: Tensor) -> Tensor:
    """Return the digits in the pictures at ``indices`` of any stream, which alternate."""
    return indices % 10


def render(glyphs: Tensor, stream: Stream, indices: Sequence[int], factors: Factors) -> Tensor:
    """Render the pictures at ``indices`` of a stream.

    Args:
        glyphs: Coverage and height of every digit in every font, shape
            ``(fonts, 10, 2, 64, 64)``.
        stream: Stream of the pictures.
        indices: N indices in the stream; about a hundred at a time are fastest.
        factors: Settings of the image factors.

    Returns:
        uint8, shape ``(N, 3, 32, 32)``; each picture is the same, bit for bit, whatever else is in
        ``indices``.
    """
    shape = _choose_glyphs(glyphs, stream, indices)
    view = _view(stream, indices, factors.scale, factors.viewpoint)
    coverage, height = F.grid_sample(shape, view, align_corners=False).split(1, dim=1)
    light = draw_light(stream, indices, factors.illumination)

    surface = draw_surface(stream, indices, factors.texture, height, light)
    behind = draw_background(stream, indices, factors.background, light)
    surface = stand_out(surface, coverage, behind)

    picture = behind * (1 - coverage) + surface * coverage
    picture = F.avg_pool2d(picture, CANVAS_SIZE // IMAGE_SIZE)
    noise = stream.normal("sensor", indices, (3, IMAGE_SIZE, IMAGE_SIZE))
    picture = picture + _SENSOR_NOISE * noise
    return (picture.clamp(0, 1) * 255).round().to(torch.uint8)


def _choose_glyphs(glyphs: Tensor, stream: Stream, indices: Sequence[int]) -> Tensor:
    """Choose the digits of the pictures in random fonts, shape ``(N, 2, 64, 64)``."""
    font = (stream.uniform("font", indices, 1)[:, 0] * len(glyphs)).long()
    return glyphs[font, digits_at(torch.tensor(indices))]


def _view(stream: Stream, indices: Sequence[int], scale: Scale, viewpoint: Viewpoint) -> Tensor:
    """Return the point on the glyph that each pixel of the canvas shows.

    Returns:
        Coordinates right and down in half sides of the glyph, shape ``(N, 64, 64, 2)``.
    """
    to_glyph = torch.linalg.inv(_projection(stream, indices, scale, viewpoint)).float()
    right, down = canvas_axes()
    # Written out because the last bits of a matrix product depend on the number of pictures.
    row = to_glyph[..., None, None].unbind(dim=1)
    x, y, depth = (r[:, 0] * right + r[:, 1] * down + r[:, 2] for r in row)
    depth = depth.clamp(min=1e-3)
    return torch.stack([x / depth, y / depth], dim=-1) + _deformation(stream, indices)


def _projection(
    stream: Stream, indices: Sequence[int], scale: Scale, viewpoint: Viewpoint
) -> Tensor:
    """Return maps from homogeneous points of the glyph to the image, float64 ``(N, 3, 3)``.

    Like all small computations here, it is in double precision, because the last bit of a float32
    may depend on the number of pictures computed together.
    """
    size = torch.full((len(indices), 1), scale.fixed, dtype=torch.float64)
    if scale.randomize:
        size = between(scale.limits, stream.uniform("scale", indices, 1).double())
    pose = torch.zeros(len(indices), 5, dtype=torch.float64)
    if viewpoint.randomize:
        pose = 2 * stream.uniform("viewpoint", indices, 5).double() - 1
    limits = pose.new_tensor(
        [viewpoint.azimuth_limit, viewpoint.elevation_limit, viewpoint.roll_limit]
    )
    azimuth, elevation, roll = (pose[:, :3] * limits * math.pi / 180).unbind(dim=1)
    shift = pose[:, 3:] * viewpoint.shift_limit
    turn = _rotation(roll, 0, 1) @ _rotation(elevation, 1, 2) @ _rotation(azimuth, 2, 0)
    centre = torch.cat([shift, torch.full_like(size, _FOCAL_LENGTH)], dim=1)
    plane = torch.stack([size * turn[:, :, 0], size * turn[:, :, 1], centre], dim=-1)
    return plane.new_tensor([_FOCAL_LENGTH, _FOCAL_LENGTH, 1])[:, None] * plane


def _rotation(angle: Tensor, first: int, second: int) -> Tensor:
    """Return rotations ``(N, 3, 3)`` by angles ``(N,)`` from axis ``first`` to ``second``."""
    turn = torch.eye(3, dtype=angle.dtype).repeat(len(angle), 1, 1)
    turn[:, first, first] = turn[:, second, second] = angle.cos()
    turn[:, second, first] = angle.sin()
    turn[:, first, second] = -angle.sin()
    return turn


def _deformation(stream: Stream, indices: Sequence[int]) -> Tensor:
    """Draw smooth displacements, shape ``(N, 64, 64, 2)``, that make all digits differ."""
    coarse = _WOBBLE * stream.normal("deformation", indices, (2, 4, 4))
    fine = F.interpolate(
        coarse, size=(CANVAS_SIZE, CANVAS_SIZE), mode="bicubic", align_corners=True
    )
    return fine.permute(0, 2, 3, 1)
