"""Synthetic people: faces drawn on the fly, so that everything can be tried, tested and timed without any data.

A person's traits depend on (seed, identity) alone and a photograph on (seed, identity, sample): the same set comes out
in every process, and one set's identities are disjoint from another's when their ranges are.
"""

import functools
from typing import Any

import numpy as np
from pydantic import ConfigDict, Field, ValidationError

from facekd.common.errors import UsageError
from facekd.common.validation import StrictSchema, explain, shown
from facekd.data.synthetic_face import Identity, draw_identity, draw_photograph
from facekd.data.synthetic_render import render

PAIRS_FIRST_IDENTITY = 1_000_000
"""Where the identities of `synthetic:` verification pairs start: beyond those of any training set."""


class SyntheticConfig(StrictSchema):
    """How many faces, and how hard they are to tell apart. A strength of 0 switches a kind of change off.

    Attributes:
        identities: number of people.
        images: photographs of each.
        seed: of everything.
        first_identity: number of the first person; give sets that must share nobody ranges that do not overlap.
        variety: how far people differ from the average face; smaller is harder.
        pose: turning, nodding, tilting, and how badly the crop is aligned.
        light: direction, contrast and colour of the light.
        expression: smile, open mouth, closed eyes, raised brows, gaze.
        blur: out of focus.
        noise: of the sensor.
        clutter: background, glasses, how the hair falls.
    """

    model_config = ConfigDict(frozen=True)

    identities: int = Field(default=64, ge=1, le=PAIRS_FIRST_IDENTITY)
    images: int = Field(default=20, ge=1, le=1_000_000)
    seed: int = Field(default=0, ge=0)
    first_identity: int = Field(default=0, ge=0)
    variety: float = Field(default=1.0, ge=0.0, le=2.0)
    pose: float = Field(default=1.0, ge=0.0, le=2.0)
    light: float = Field(default=1.0, ge=0.0, le=2.0)
    expression: float = Field(default=1.0, ge=0.0, le=2.0)
    blur: float = Field(default=1.0, ge=0.0, le=4.0)
    noise: float = Field(default=1.0, ge=0.0, le=4.0)
    clutter: float = Field(default=1.0, ge=0.0, le=1.0)


def draw_face(config: SyntheticConfig, identity: int, sample: int) -> tuple[np.ndarray, np.ndarray]:
    """Photograph `sample` of person `identity`: uint8 RGB [112, 112, 3] and landmarks float64 [5, 2]."""
    rng = np.random.default_rng([config.seed, identity, sample + 1])  # + 1: trailing zeros do not change a seed
    photograph = draw_photograph(
        rng,
        pose=config.pose,
        light=config.light,
        expression=config.expression,
        blur=config.blur,
        noise=config.noise,
        clutter=config.clutter,
    )
    return render(_person(config.seed, identity, config.variety), photograph)


@functools.lru_cache(maxsize=1024)
def _person(seed: int, identity: int, variety: float) -> Identity:
    return draw_identity(np.random.default_rng([seed, identity]), variety)


def synthetic_fields(text: str) -> dict[str, str]:
    """`a=1,b=2` -> {"a": "1", "b": "2"}."""
    fields: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.partition("=")
        if not equals:
            raise UsageError(
                f"synthetic: {shown(part)} is not name=value, as in synthetic:identities=64,images=20,seed=0"
            )
        fields[name.strip()] = value.strip()
    return fields


def synthetic_config(fields: dict[str, Any]) -> SyntheticConfig:
    """The fields as a SyntheticConfig. Raises UsageError."""
    try:
        return SyntheticConfig(**fields)
    except ValidationError as error:
        raise UsageError(f"synthetic: {explain(error, SyntheticConfig)}") from None
