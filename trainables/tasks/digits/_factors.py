"""The paper's five image factors, each drawn anew for every picture or held fixed.

Switching one factor from random to fixed leaves what the others draw unchanged.
"""

from typing import Annotated

from pydantic import AfterValidator, Field, PositiveFloat

from trainables.configuration.schema import BaseConfig


def _ascending(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise ValueError(f"must be [lowest, highest], got [{limits[0]}, {limits[1]}].")
    return limits


# YAML has no tuples: `strict=False` lets a list stand for one; its numbers stay strict.
Limits = Annotated[tuple[float, float], Field(strict=False), AfterValidator(_ascending)]
"""Lowest and highest value of a uniform draw."""
PositiveLimits = Annotated[
    tuple[PositiveFloat, PositiveFloat], Field(strict=False), AfterValidator(_ascending)
]
"""The same, above 0."""
Share = Annotated[float, Field(ge=0, le=1)]
Colour = Annotated[tuple[Share, Share, Share], Field(strict=False)]
"""Red, green and blue before lighting, from 0 to 1."""


class Scale(BaseConfig):
    """Size of the object."""

    randomize: bool = True
    """Draw the size within ``limits``; else it is ``fixed``."""
    limits: PositiveLimits = (0.55, 1.15)
    """Of the size; at 1 the digit's longer side is 72 % of the image's when seen head-on."""
    fixed: PositiveFloat = 0.85
    """The size where it is not drawn."""


class Texture(BaseConfig):
    """Material of the object: two colours in a pattern, and how it shines."""

    randomize: bool = True
    """Draw colours, pattern and shininess; else a plain material."""
    shininess_limits: Limits = (0.0, 0.6)
    """Of the strength of the highlight, relative to the light's intensity."""
    fixed_colour: Colour = (0.55, 0.45, 0.30)
    """The plain material's."""
    fixed_shininess: float = Field(0.2, ge=0)
    """The plain material's."""


class Illumination(BaseConfig):
    """One distant light and an ambient one."""

    randomize: bool = True
    """Draw everything below, and the light's direction in the image plane; else it is fixed."""
    elevation_limits: Limits = (0.3, 1.3)
    """Of the light's angle above the image plane, in radians; π/2 is frontal light."""
    ambient_limits: Limits = (0.25, 0.7)
    """Of the light that reaches every point; 1 shows the full albedo."""
    intensity_limits: Limits = (0.5, 1.2)
    """Of the directed light."""
    tint_limits: Limits = (-0.125, 0.125)
    """Of what is added to 1 to give the light's red, green and blue, each drawn on its own."""
    falloff_limits: Limits = (0.0, 0.5)
    """Of the relative gain in brightness from the centre towards the light's edge of the image."""
    fixed_direction: float = 2.3
    """Angle of the light in the image plane in radians, from right towards bottom."""
    fixed_elevation: float = 1.0
    """In radians."""
    fixed_ambient: float = Field(0.5, ge=0)
    """As ``ambient_limits``. Fixed light is white and has no fall-off."""
    fixed_intensity: float = Field(0.9, ge=0)
    """As ``intensity_limits``."""


class Viewpoint(BaseConfig):
    """Where the camera stands; fixed, it is in front of the object's centre."""

    randomize: bool = True
    """Draw angles and shift within ``±`` the limits below; else all of them are 0."""
    azimuth_limit: float = Field(40.0, ge=0, lt=90)
    """Turn about the vertical axis, in degrees."""
    elevation_limit: float = Field(40.0, ge=0, lt=90)
    """Turn about the horizontal axis, in degrees."""
    roll_limit: float = Field(15.0, ge=0, le=180)
    """Turn in the image plane, in degrees."""
    shift_limit: float = Field(0.15, ge=0, lt=1)
    """Of the object's centre along each axis, as a share of half the image's side."""


class Background(BaseConfig):
    """What is behind the object: two colours in a pattern."""

    randomize: bool = True
    """Draw colours and pattern; else it is plain."""
    fixed_colour: Colour = (0.5, 0.5, 0.5)
    """The plain background's. Black is the paper's "without background"."""


class Factors(BaseConfig):
    """All five."""

    scale: Scale = Scale()
    """Size of the object."""
    texture: Texture = Texture()
    """Material of the object."""
    illumination: Illumination = Illumination()
    """Light."""
    viewpoint: Viewpoint = Viewpoint()
    """Where the camera stands."""
    background: Background = Background()
    """What is behind the object."""
