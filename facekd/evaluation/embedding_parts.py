"""Embeddings on their way into a file: appended to a folder beside it as they are computed (facekd.common.parts).

The folder holds embeddings.f32 and indices.i64 (a row an embedded image) and skipped.jsonl (a line an image that could
not be used).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from facekd.common.parts import Parts, PartsKind, open_parts

_ROWS, _INDICES, _SKIPPED = "embeddings.f32", "indices.i64", "skipped.jsonl"

KIND = PartsKind(
    schema="facekd embedding parts 2",
    name="a folder of embeddings in the making",
    files=(_ROWS, _INDICES, _SKIPPED),
    items="images",
    done="embedded",
    doing="computing these embeddings",
)


class EmbeddingParts(Parts):
    """What is computed so far; `open_embedding_parts` makes one.

    Attributes:
        width: numbers an embedding.
    """

    width: int

    @property
    def rows(self) -> int:
        """Images that have an embedding."""
        return self.size(_INDICES) // 8

    def add(self, end: int, indices: np.ndarray, embeddings: np.ndarray, skipped: Sequence[tuple[str, str]]) -> None:
        """Adds what came of the images from `done` to `end`.

        Args:
            end: the first image that was not looked at.
            indices: int64 [k], the images that were embedded.
            embeddings: float32 [k, e].
            skipped: (name, why) of the others.

        Raises:
            OSError: the disk is full; what was there before stays.
        """
        lines = "".join(json.dumps(list(one)) + "\n" for one in skipped).encode()
        new = {
            _ROWS: np.ascontiguousarray(embeddings, dtype="<f4").tobytes(),
            _INDICES: np.ascontiguousarray(indices, dtype="<i8").tobytes(),
            _SKIPPED: lines,
        }
        self.append(end, new)

    def embeddings(self) -> np.ndarray:
        """float32 [rows, e], memory-mapped."""
        if not self.rows:
            return np.empty((0, self.width), dtype=np.float32)
        return np.memmap(self.folder / _ROWS, dtype="<f4", mode="r", shape=(self.rows, self.width))

    def indices(self) -> np.ndarray:
        """int64 [rows], which image each embedding is of, memory-mapped."""
        if not self.rows:
            return np.empty(0, dtype=np.int64)
        return np.memmap(self.folder / _INDICES, dtype="<i8", mode="r", shape=(self.rows,))

    def skipped(self) -> Iterator[tuple[str, str]]:
        """(name, why) of the images without an embedding."""
        with (self.folder / _SKIPPED).open(encoding="utf-8") as file:
            for line in file:
                name, why = json.loads(line)
                yield name, why


@contextmanager
def open_embedding_parts(
    folder: Path, facts: Mapping[str, str], *, images: int, width: int, overwrite: bool
) -> Iterator[EmbeddingParts]:
    """See facekd.common.parts.open_parts.

    Args:
        folder: made if it is not there.
        facts: what decides about the numbers, by its name in messages.
        images: how many there are to embed.
        width: numbers an embedding.
        overwrite: start anew where the parts belong to other facts, instead of refusing.
    """
    facts = {**facts, "width of embeddings": str(width)}
    with open_parts(folder, KIND, EmbeddingParts, facts, total=images, overwrite=overwrite) as parts:
        parts.width = width
        yield parts
