"""What a teacher's stored outputs are of: they are used for that teacher, those faces and that augmentation alone."""

import math
from typing import Any, Literal

from pydantic import Field

from facekd.common.validation import StrictSchema
from facekd.schemas.input_spec import InputSpec

CACHE_FILE = "cache.json"


class CachedTeacherFacts(StrictSchema):
    """The teacher whose outputs they are.

    Attributes:
        name, sha256: of its files.
        kind: its class.
        input: what it was fed.
        output: the output of a model file that was asked for, None for its own choice.
        embedding_width: e.
        token_width, grid: d and (h, w) of its tokens; None where it gives embeddings alone.
    """

    name: str
    sha256: str
    kind: str
    input: InputSpec
    output: str | None = None
    embedding_width: int = Field(ge=1, le=2**20)
    token_width: int | None = Field(default=None, ge=1, le=2**20)
    grid: tuple[int, int] | None = None


class CachedFaces(StrictSchema):
    """The training faces.

    Attributes:
        name: for messages.
        fingerprint: of the source.
        images: how many it has.
    """

    name: str
    fingerprint: str
    images: int = Field(ge=1)


class TeacherCacheCard(StrictSchema):
    """`cache.json` of a folder of stored outputs.

    Attributes:
        teacher, faces: what was shown to what.
        augmentation: what was done to each image before, as in a recipe.
        seed: view `v` of image `i` is augmented by default_rng([seed, v, i]).
        views: of each image; epoch `n` of a training sees view n modulo views.
        tokens: how tokens are kept: not, as float16, or as int8 with a float16 scale a token.
        shard_rows: outputs in a file. Row `view * images + i` is image `i`'s.
    """

    schema_version: Literal[1] = 1
    teacher: CachedTeacherFacts
    faces: CachedFaces
    augmentation: dict[str, Any]
    seed: int = Field(default=0, ge=0)
    views: int = Field(ge=1, le=4096)
    tokens: Literal["none", "float16", "int8"]
    shard_rows: int = Field(ge=1, le=2**24)

    @property
    def rows(self) -> int:
        """Outputs in all."""
        return self.views * self.faces.images

    @property
    def shards(self) -> int:
        """Files of each kind."""
        return -(-self.rows // self.shard_rows)

    def rows_of(self, shard: int) -> int:
        """Outputs in one file; the last has fewer."""
        return min(self.shard_rows, self.rows - shard * self.shard_rows)

    @property
    def bytes(self) -> int:
        """Of all files, their headers aside."""
        return self.rows * sum(math.prod(shape) * int(kind[-1]) for shape, kind in self.arrays().values())

    def arrays(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Name -> (shape of a row, NumPy type) of what is kept; the embedding last, which is written last."""
        kept: dict[str, tuple[tuple[int, ...], str]] = {}
        if self.tokens != "none" and self.teacher.grid is not None and self.teacher.token_width is not None:
            places = self.teacher.grid[0] * self.teacher.grid[1]
            if self.tokens == "int8":
                kept["token_scales"] = ((places,), "<f2")
            kept["tokens"] = ((places, self.teacher.token_width), "<f2" if self.tokens == "float16" else "|i1")
        kept["embedding"] = ((self.teacher.embedding_width,), "<f2")
        return kept
