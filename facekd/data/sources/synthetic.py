"""Synthetic people as a source: `synthetic:identities=64,images=20,seed=0`, with any field of SyntheticConfig."""

from typing import Any

import numpy as np

from facekd.common.errors import UsageError
from facekd.common.hashing import parts_sha256
from facekd.data.source import Source
from facekd.data.sources import SOURCES, SourceKind
from facekd.data.synthetic import SyntheticConfig, draw_face, synthetic_config, synthetic_fields

MAX_IMAGES = 10**8
"""Of one set: a label of each is held in memory."""


class SyntheticSource:
    """`identities` people with `images` photographs each, 112x112, as a Source.

    Keyword arguments are SyntheticConfig's fields: SyntheticSource(identities=64, images=20, seed=0).
    """

    def __init__(self, config: SyntheticConfig | None = None, **fields: Any) -> None:
        self.config = config if config is not None else synthetic_config(fields)
        self.num_identities = self.config.identities
        if self.config.identities * self.config.images > MAX_IMAGES:
            raise UsageError(
                f"synthetic: {self.config.identities:,} identities with {self.config.images:,} images each are more "
                f"than {MAX_IMAGES:,}: lower one of them"
            )
        self.labels = np.repeat(np.arange(self.config.identities, dtype=np.int64), self.config.images)
        c = self.config
        self.name = f"synthetic-{c.identities}x{c.images}-seed{c.seed}-from{c.first_identity}"

    @classmethod
    def from_text(cls, text: str) -> "SyntheticSource":
        """From `identities=64,images=20,seed=0`."""
        return cls(synthetic_config(synthetic_fields(text)))

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


@SOURCES.decorator("synthetic")
class SyntheticKind(SourceKind):
    """`synthetic:identities=64`: it has no path."""

    example = "synthetic:identities=64"

    @classmethod
    def open(cls, text: str, *, size: tuple[int, int] | None) -> Source:
        """Its faces are 112x112: another `size` is told when an image is read."""
        del size
        return SyntheticSource.from_text(text)
