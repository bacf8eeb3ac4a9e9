"""Synthetic people: faces drawn on the fly, so that everything can be tried, tested and timed without any data.

A person's traits depend on (seed, identity) alone and a photograph on (seed, identity, sample): the same set comes out
in every process, and one set's identities are disjoint from another's when their ranges are.
"""

import functools
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from facekd.common.errors import UsageError
from facekd.common.hashing import parts_sha256
from facekd.data.synthetic_face import Identity, draw_identity, draw_photograph
from facekd.data.synthetic_render import render
from facekd.data.verification_set import VerificationSet

PAIRS_FIRST_IDENTITY = 1_000_000
"""Where the identities of `synthetic:` verification pairs start: beyond those of any training set."""


class SyntheticConfig(BaseModel):
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

    model_config = ConfigDict(extra="forbid", frozen=True)

    identities: int = Field(default=64, ge=1, le=PAIRS_FIRST_IDENTITY)
    images: int = Field(default=20, ge=1)
    seed: int = Field(default=0, ge=0)
    first_identity: int = Field(default=0, ge=0)
    variety: float = Field(default=1.0, ge=0.0, le=2.0)
    pose: float = Field(default=1.0, ge=0.0, le=2.0)
    light: float = Field(default=1.0, ge=0.0, le=2.0)
    expression: float = Field(default=1.0, ge=0.0, le=2.0)
    blur: float = Field(default=1.0, ge=0.0, le=4.0)
    noise: float = Field(default=1.0, ge=0.0, le=4.0)
    clutter: float = Field(default=1.0, ge=0.0, le=1.0)


class SyntheticSource:
    """`identities` people with `images` photographs each, 112x112, as a Source.

    Keyword arguments are SyntheticConfig's fields: SyntheticSource(identities=64, images=20, seed=0).
    """

    def __init__(self, config: SyntheticConfig | None = None, **fields: Any) -> None:
        self.config = config if config is not None else _config(fields)
        self.num_identities = self.config.identities
        self.labels = np.repeat(np.arange(self.config.identities, dtype=np.int64), self.config.images)
        c = self.config
        self.name = f"synthetic-{c.identities}x{c.images}-seed{c.seed}-from{c.first_identity}"

    @classmethod
    def from_text(cls, text: str) -> "SyntheticSource":
        """From `identities=64,images=20,seed=0`."""
        return cls(_config(_fields(text)))

    def __len__(self) -> int:
        return len(self.labels)

    def key(self, i: int) -> str:
        identity, sample = self._place(i)
        return f"{identity:07d}/{sample:05d}"

    def read(self, i: int) -> np.ndarray:
        return self.draw(i)[0]

    def draw(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Image `i` as uint8 RGB [112, 112, 3], and its landmarks float64 [5, 2]."""
        identity, sample = self._place(i)
        return draw_face(self.config, identity, sample)

    def fingerprint(self) -> str:
        return parts_sha256("synthetic 1", self.config.model_dump_json())

    def _place(self, i: int) -> tuple[int, int]:
        if not 0 <= i < len(self.labels):
            raise IndexError(f"image {i} of {len(self.labels)}")
        return self.config.first_identity + i // self.config.images, i % self.config.images


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


def synthetic_pairs(text: str) -> VerificationSet:
    """A VerificationSet from `identities=64,pairs=600,seed=0` (and any strength of SyntheticConfig).

    Half the pairs show one person, half two, in ten folds of alternating halves as LFW has them when `pairs` is a
    multiple of 20. Identities start at PAIRS_FIRST_IDENTITY unless first_identity says otherwise.
    """
    fields = _fields(text)
    try:
        pairs = int(fields.pop("pairs", "600"))
    except ValueError:
        raise UsageError(f"synthetic pairs: pairs must be a whole number, got {text!r}") from None
    if pairs < 2:
        raise UsageError(f"synthetic pairs: pairs must be at least 2, got {pairs}")
    config = _config({"first_identity": PAIRS_FIRST_IDENTITY, "images": 1_000_000, **fields})
    if config.identities < 2 or config.images < 2:
        raise UsageError(
            f"synthetic pairs need 2 identities and 2 images of each, got {config.identities} and {config.images}"
        )
    fold = pairs // 10 if pairs % 20 == 0 else pairs
    issame = np.arange(pairs) % fold < fold // 2
    rng = np.random.default_rng([config.seed, config.first_identity])
    images: list[np.ndarray] = []
    for same in issame:
        first, second = rng.choice(config.identities, 2, replace=False)
        samples = rng.choice(config.images, 2, replace=False)
        for person, sample in zip((first, first if same else second), samples, strict=True):
            images.append(draw_face(config, config.first_identity + int(person), int(sample))[0])
    name = f"synthetic-pairs-{config.identities}-seed{config.seed}-from{config.first_identity}"
    return VerificationSet(name, images, issame, fold_sizes=[fold] * (pairs // fold))


@functools.lru_cache(maxsize=1024)
def _person(seed: int, identity: int, variety: float) -> Identity:
    return draw_identity(np.random.default_rng([seed, identity]), variety)


def _fields(text: str) -> dict[str, str]:
    """`a=1,b=2` -> {"a": "1", "b": "2"}."""
    fields: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.partition("=")
        if not equals:
            raise UsageError(f"synthetic: {part!r} is not name=value, as in synthetic:identities=64,images=20,seed=0")
        fields[name.strip()] = value.strip()
    return fields


def _config(fields: dict[str, Any]) -> SyntheticConfig:
    try:
        return SyntheticConfig(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            raise UsageError(
                f"synthetic: unknown field {name!r}; there are {', '.join(SyntheticConfig.model_fields)}"
            ) from None
        raise UsageError(f"synthetic: {name}={first['input']!r}: {first['msg']}") from None
