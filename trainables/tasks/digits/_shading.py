"""Material, light and background of rendered digits."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.tasks.digits._canvas import CANVAS_SIZE, Stream, between, canvas_axes
from trainables.tasks.digits._factors import Background, Colour, Illumination, Texture

_COLOUR_SPREAD = 0.6
"""Position of a pattern's second colour between the first and another random colour."""
_OCTAVES = (3, 6, 12)
"""Cells along a side of each of the grids whose sum is a cloudy pattern."""
_OCTAVE_DECAY = 0.6
"""Weight of a grid relative to the next coarser one."""
_RELIEF_HEIGHT = CANVAS_SIZE / 16
"""Height of a bevel, in pixels of the canvas."""
_SPECULAR_EXPONENT = 24
"""Exponent of Blinn's highlight; a larger one makes the highlight smaller."""
_MIN_CONTRAST = 0.3
"""Minimum difference in mean luminance between object and background."""
_LUMINANCE = (0.3, 0.59, 0.11)
"""Weights of red, green and blue in luminance."""


@dataclass(frozen=True)
class Light:
    """Lighting of N pictures; every field is of shape ``(N, 1, 1, 1)`` or ``(N, 3, 1, 1)``."""

    direction: tuple[Tensor, Tensor, Tensor]
    """Unit vector towards the light: right, down and towards the camera."""
    across: tuple[Tensor, Tensor]
    """Unit vector towards the light in the image plane: right and down."""
    ambient: Tensor
    """Intensity of the ambient light."""
    intensity: Tensor
    """Intensity of the distant light."""
    falloff: Tensor
    """Relative gain in brightness from the centre to the edge towards the light."""
    tint: Tensor
    """Red, green and blue factors of all light."""


def _material(stream: Stream, purpose: str, indices: Sequence[int]) -> Tensor:
    """Draw two random colours in a random pattern, shape ``(N, 3, 64, 64)``."""
    colours = stream.uniform(f"{purpose} colours", indices, 6)[..., None, None]
    first, other = colours[:, :3], colours[:, 3:]
    return first + _COLOUR_SPREAD * (other - first) * _pattern(stream, purpose, indices)


def _pattern(stream: Stream, purpose: str, indices: Sequence[int]) -> Tensor:
    """Draw plain, gradient, clouds, stripes or checks, in ``[0, 1]``, ``(N, 1, 64, 64)``."""
    axis = torch.linspace(-1, 1, CANVAS_SIZE)
    down, right = torch.meshgrid(axis, axis, indexing="ij")
    angle, frequency, phase, kind = stream.uniform(f"{purpose} pattern", indices, 4)[
        ..., None, None
    ].unbind(dim=1)
    angle = 2 * math.pi * angle.double()
    cos, sin = angle.cos().float(), angle.sin().float()
    along, across = right * cos + down * sin, -right * sin + down * cos
    frequency, phase = between((3, 12), frequency), between((0, 6.28), phase)
    wave = torch.sin(frequency * along + phase)
    patterns = torch.stack(
        [
            torch.zeros_like(along),
            (along + 1.4) / 2.8,
            _clouds(stream.uniform(f"{purpose} clouds", indices, sum(n * n for n in _OCTAVES))),
            torch.sigmoid(6 * wave),
            torch.sigmoid(8 * wave * torch.sin(frequency * across + phase)),
        ],
        dim=1,
    )
    chosen = (kind[:, 0, 0] * patterns.shape[1]).long()
    return patterns[torch.arange(len(indices)), chosen][:, None]


def _clouds(uniform: Tensor) -> Tensor:
    """Return noise of several scales, rescaled to ``[0, 1]``, shape ``(N, 64, 64)``."""
    grids = uniform.split([n * n for n in _OCTAVES], dim=1)
    clouds = torch.zeros(len(uniform), 1, CANVAS_SIZE, CANVAS_SIZE)
    for octave, (n, grid) in enumerate(zip(_OCTAVES, grids, strict=True)):
        fine = F.interpolate(
            grid.view(-1, 1, n, n),
            size=(CANVAS_SIZE, CANVAS_SIZE),
            mode="bilinear",
            align_corners=True,
        )
        clouds = clouds + _OCTAVE_DECAY**octave * fine
    low, high = clouds.amin((2, 3), keepdim=True), clouds.amax((2, 3), keepdim=True)
    return ((clouds - low) / (high - low + 1e-6))[:, 0]


def draw_light(stream: Stream, indices: Sequence[int], illumination: Illumination) -> Light:
    """Return the light of each picture; fixed light is white and has no fall-off."""
    if not illumination.randomize:
        fixed = torch.tensor(
            [
                illumination.fixed_direction,
                illumination.fixed_elevation,
                illumination.fixed_ambient,
                illumination.fixed_intensity,
                0.0,
            ],
            dtype=torch.float64,
        )
        return _light(fixed.expand(len(indices), -1), torch.ones(1, 3))
    draws = stream.uniform("illumination", indices, 8).double()
    angle, elevation, ambient, intensity, falloff = draws[:, :5].unbind(dim=1)
    return _light(
        torch.stack(
            [
                between((0, 2 * math.pi), angle),
                between(illumination.elevation_limits, elevation),
                between(illumination.ambient_limits, ambient),
                between(illumination.intensity_limits, intensity),
                between(illumination.falloff_limits, falloff),
            ],
            dim=1,
        ),
        1 + between(illumination.tint_limits, draws[:, 5:]),
    )


def _light(numbers: Tensor, tint: Tensor) -> Light:
    """Build light from direction, elevation, ambience, intensity, fall-off, float64 ``(N, 5)``."""
    angle, elevation, ambient, intensity, falloff = numbers[..., None, None].split(1, dim=1)
    right, down, front = angle.cos(), angle.sin(), elevation.sin()
    in_plane = elevation.cos()
    return Light(
        ((right * in_plane).float(), (down * in_plane).float(), front.float()),
        (right.float(), down.float()),
        ambient.float(),
        intensity.float(),
        falloff.float(),
        tint.float()[..., None, None],
    )


def _brightness(light: Light, diffuse: Tensor) -> Tensor:
    """Return the factor of the albedo, given the cosine of the angle of incidence."""
    right, down = canvas_axes()
    falloff = 1 + light.falloff * (right * light.across[0] + down * light.across[1])
    return (light.ambient + light.intensity * diffuse) * falloff * light.tint


def draw_surface(
    stream: Stream, indices: Sequence[int], texture: Texture, height: Tensor, light: Light
) -> Tensor:
    """Draw the lit object, by Lambert's law and Blinn's highlight.

    Args:
        stream: Stream of the pictures.
        indices: N indices in the stream.
        texture: Settings of the material.
        height: Height of the surface, shape ``(N, 1, 64, 64)``.
        light: Light on the surface.

    Returns:
        Colours, shape ``(N, 3, 64, 64)``.
    """
    albedo, shininess = _texture(stream, indices, texture)
    slope_x = F.pad(height[..., 2:] - height[..., :-2], (1, 1, 0, 0)) * _RELIEF_HEIGHT
    slope_y = F.pad(height[..., 2:, :] - height[..., :-2, :], (0, 0, 1, 1)) * _RELIEF_HEIGHT
    steepness = torch.sqrt(1 + slope_x**2 + slope_y**2)
    right, down, front = light.direction
    halfway = front + 1  # the camera looks along this axis; normalised below
    halfway_length = torch.sqrt(right**2 + down**2 + halfway**2)
    leaning = -slope_x * right - slope_y * down
    diffuse = ((leaning + front) / steepness).clamp(min=0)
    mirrored = ((leaning + halfway) / steepness / halfway_length).clamp(min=0)
    highlight = shininess * light.intensity * mirrored**_SPECULAR_EXPONENT
    return albedo * _brightness(light, diffuse) + highlight


def _texture(stream: Stream, indices: Sequence[int], texture: Texture) -> tuple[Tensor, Tensor]:
    """Return albedo and shininess, of shapes that broadcast to ``(N, 3, 64, 64)``."""
    if not texture.randomize:
        return _plain(texture.fixed_colour), torch.tensor(texture.fixed_shininess)
    shininess = stream.uniform("shininess", indices, 1)[..., None, None]
    return (_material(stream, "texture", indices), between(texture.shininess_limits, shininess))


def draw_background(
    stream: Stream, indices: Sequence[int], background: Background, light: Light
) -> Tensor:
    """Draw the lit plane behind the object, shape ``(N, 3, 64, 64)``."""
    albedo = (
        _material(stream, "background", indices)
        if background.randomize
        else _plain(background.fixed_colour)
    )
    return albedo * _brightness(light, light.direction[2])


def _plain(colour: Colour) -> Tensor:
    return torch.tensor(colour)[:, None, None]


def stand_out(surface: Tensor, coverage: Tensor, behind: Tensor) -> Tensor:
    """Brighten or darken objects that differ too little from their background.

    An object that has to cross the background's luminance falls short of the minimum contrast by
    its former difference; the frozen generator keeps this.

    Args:
        surface: Lit object, shape ``(N, 3, 64, 64)``.
        coverage: Coverage of each pixel by the object, shape ``(N, 1, 64, 64)``.
        behind: Lit background, shape ``(N, 3, 64, 64)``.

    Returns:
        The object, all its pixels shifted by the same amount, shape ``(N, 3, 64, 64)``.
    """
    luminance = surface.new_tensor(_LUMINANCE).view(1, 3, 1, 1)
    weighted = (surface * luminance).sum(1, keepdim=True) * coverage
    of_object = weighted.sum((2, 3), keepdim=True) / coverage.sum((2, 3), keepdim=True).clamp(
        min=1
    )
    of_background = (behind * luminance).sum(1, keepdim=True).mean((2, 3), keepdim=True)
    contrast = of_object - of_background
    # Darker on bright backgrounds, brighter on dark ones, otherwise away from the background.
    direction = torch.where(contrast >= 0, 1.0, -1.0)
    direction = direction.masked_fill(of_background > 0.55, -1.0)
    direction = direction.masked_fill(of_background < 0.45, 1.0)
    crossing = torch.where(direction * contrast < 0, contrast, 0.0)
    change = direction * (_MIN_CONTRAST - contrast.abs()) - crossing
    return torch.where(contrast.abs() < _MIN_CONTRAST, surface + change, surface)
