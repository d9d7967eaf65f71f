"""The paper's five image factors, each drawn for every picture or held fixed.

Fixing one factor does not change what the others draw.
"""

from typing import Annotated

from pydantic import AfterValidator, Field, PositiveFloat

from trainables.configuration.schema import BaseConfig


def _ascending(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise ValueError(f"must be [lowest, highest], got [{limits[0]}, {limits[1]}].")
    return limits


# YAML has no tuples: `strict=False` accepts lists instead; their numbers remain strict.
Limits = Annotated[tuple[float, float], Field(strict=False), AfterValidator(_ascending)]
"""Minimum and maximum of a uniform draw."""
PositiveLimits = Annotated[
    tuple[PositiveFloat, PositiveFloat], Field(strict=False), AfterValidator(_ascending)
]
"""Minimum and maximum, above 0, of a uniform draw."""
Share = Annotated[float, Field(ge=0, le=1)]
Colour = Annotated[tuple[Share, Share, Share], Field(strict=False)]
"""Red, green and blue albedo, from 0 to 1."""


class Scale(BaseConfig):
    """Settings of the object's size."""

    randomize: bool = True
    """Draw the size from ``limits``; ``false``: it is ``fixed``."""
    limits: PositiveLimits = (0.55, 1.15)
    """Limits of the size. At size 1, seen from the front, the digit's longer side is 72 % of the
    image's."""
    fixed: PositiveFloat = 0.85
    """Size if it is not drawn."""


class Texture(BaseConfig):
    """Settings of the object's material: two colours in a pattern, and a highlight."""

    randomize: bool = True
    """Draw colours, pattern and shininess; ``false``: the material is plain."""
    shininess_limits: Limits = (0.0, 0.6)
    """Limits of the highlight's strength, relative to the light's intensity."""
    fixed_colour: Colour = (0.55, 0.45, 0.30)
    """Red, green and blue of the plain material, from 0 to 1."""
    fixed_shininess: float = Field(0.2, ge=0)
    """Strength of the plain material's highlight, relative to the light's intensity."""


class Illumination(BaseConfig):
    """Settings of one distant light and of ambient light."""

    randomize: bool = True
    """Draw the settings below, and the light's direction in the image plane; ``false``: they are
    fixed, the light is white and has no fall-off."""
    elevation_limits: Limits = (0.3, 1.3)
    """Limits of the light's angle above the image plane, in radians; π/2 is frontal light."""
    ambient_limits: Limits = (0.25, 0.7)
    """Limits of the ambient light's intensity; 1 shows the full albedo."""
    intensity_limits: Limits = (0.5, 1.2)
    """Limits of the distant light's intensity."""
    tint_limits: Limits = (-0.125, 0.125)
    """Limits of the deviation from 1 of the light's red, green and blue, drawn independently."""
    falloff_limits: Limits = (0.0, 0.5)
    """Limits of the relative gain in brightness from the centre to the edge towards the light."""
    fixed_direction: float = 2.3
    """Fixed angle of the light in the image plane, in radians from right towards bottom."""
    fixed_elevation: float = 1.0
    """Fixed angle of the light above the image plane, in radians."""
    fixed_ambient: float = Field(0.5, ge=0)
    """Fixed intensity of the ambient light."""
    fixed_intensity: float = Field(0.9, ge=0)
    """Fixed intensity of the distant light."""


class Viewpoint(BaseConfig):
    """Settings of the camera, which looks at the object's centre from the front if fixed."""

    randomize: bool = True
    """Draw angles and shift within ``±`` the limits below; ``false``: all are 0."""
    azimuth_limit: float = Field(40.0, ge=0, lt=90)
    """Maximum rotation about the vertical axis, in degrees."""
    elevation_limit: float = Field(40.0, ge=0, lt=90)
    """Maximum rotation about the horizontal axis, in degrees."""
    roll_limit: float = Field(15.0, ge=0, le=180)
    """Maximum rotation in the image plane, in degrees."""
    shift_limit: float = Field(0.15, ge=0, lt=1)
    """Maximum shift of the object's centre along each axis, in half sides of the image."""


class Background(BaseConfig):
    """Settings of the background: two colours in a pattern."""

    randomize: bool = True
    """Draw colours and pattern; ``false``: the background is plain."""
    fixed_colour: Colour = (0.5, 0.5, 0.5)
    """Red, green and blue of the plain background, from 0 to 1; black is the paper's "without
    background"."""


class Factors(BaseConfig):
    """Settings of all five image factors."""

    scale: Scale = Scale()
    """Size of the object."""
    texture: Texture = Texture()
    """Material of the object."""
    illumination: Illumination = Illumination()
    """Light on object and background."""
    viewpoint: Viewpoint = Viewpoint()
    """Position of the camera."""
    background: Background = Background()
    """Plane behind the object."""
