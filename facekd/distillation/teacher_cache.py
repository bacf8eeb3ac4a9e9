"""A teacher's outputs in a folder: `cache.json`, and memory-mapped arrays of so many rows a file.

A frozen teacher gives the same for the same view of an image. Stored once, distillation costs what plain training does,
whatever the teacher costs. Teacher and student see the very same view ("a good teacher is patient and consistent",
Beyer et al., CVPR 2022; stored targets as in FKD, Shen and Xing, ECCV 2022).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facekd.common.errors import FacekdError, UsageError
from facekd.common.text import plain
from facekd.data.source import Source
from facekd.recipe import Recipe
from facekd.schemas.reading import read_versioned
from facekd.schemas.teacher_cache import CACHE_FILE, CachedFaces, TeacherCacheCard

_ANEW = "delete it, and run `facekd teacher cache` again"


class TeacherCache:
    """An opened folder of stored outputs, complete or not.

    Args:
        folder: the place.

    Attributes:
        card: what the outputs are of.

    Raises:
        UsageError: there is no such folder.
        FacekdError: its cache.json is damaged.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / CACHE_FILE).is_file():
            raise UsageError(
                f"no teacher's outputs at {folder}: `facekd teacher cache RECIPE --out {folder}` stores them"
            )
        self.folder = folder
        self.card = read_versioned(
            folder / CACHE_FILE, TeacherCacheCard, newest=1, what="a teacher cache", advice="delete the folder"
        )
        self._arrays: dict[tuple[str, int], np.ndarray] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Without the open files: a process that is sent this opens its own."""
        return {**self.__dict__, "_arrays": {}}

    @property
    def views(self) -> int:
        """Views of each image."""
        return self.card.views

    @property
    def seed(self) -> int:
        """Of the augmentation."""
        return self.card.seed

    def missing(self) -> list[int]:
        """The shards that are not there yet."""
        return [shard for shard in range(self.card.shards) if not shard_file(self.folder, "embedding", shard).is_file()]

    def read(self, view: int, indices: Sequence[int]) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """What the teacher made of view `view` of some images.

        Returns:
            rows [b, ...] by name, see `TeacherCacheCard.arrays`; bool [b], False for an image that could not be read.

        Raises:
            FacekdError: a file is missing or damaged.
        """
        shards, places = np.divmod(view * self.card.faces.images + np.asarray(indices, np.int64), self.card.shard_rows)
        found = {}
        for name, (shape, kind) in self.card.arrays().items():
            rows = np.empty((len(indices), *shape), np.dtype(kind))
            for i, (shard, place) in enumerate(zip(shards, places, strict=True)):
                rows[i] = self._array(name, int(shard))[place]
            found[name] = rows
        return found, np.asarray(~np.isnan(found["embedding"]).any(axis=1))

    def _array(self, name: str, shard: int) -> np.ndarray:
        kept = self._arrays.get((name, shard))
        if kept is None:
            path = shard_file(self.folder, name, shard)
            shape, kind = self.card.arrays()[name]
            expected = (self.card.rows_of(shard), *shape)
            try:
                kept = np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise FacekdError(f"{path} cannot be read ({plain(str(error))}): {_ANEW}") from None
            if kept.shape != expected or kept.dtype != np.dtype(kind):
                found = f"{kept.dtype} {list(kept.shape)}"
                raise FacekdError(f"{path} holds {found}, not {np.dtype(kind)} {list(expected)}: {_ANEW}")
            self._arrays[name, shard] = kept
        return kept


def shard_file(folder: Path, name: str, shard: int) -> Path:
    """Where array `name` of one shard lies."""
    return folder / f"{name}-{shard:06d}.npy"


def faces_of(source: Source) -> CachedFaces:
    """The training faces as a cache names them."""
    return CachedFaces(name=source.name, fingerprint=source.fingerprint(), images=len(source))


def check_complete(cache: TeacherCache) -> None:
    """Raises UsageError where shards are missing."""
    if missing := cache.missing():
        done = cache.card.shards - len(missing)
        raise UsageError(
            f"the cache at {cache.folder} is not finished: {done} of {cache.card.shards} parts are there; run "
            "`facekd teacher cache` with the same recipe and --out again, which goes on"
        )


def can_be_stored(recipe: Recipe) -> bool:
    """Whether the recipe's teacher runs at every step, and its outputs could be stored instead."""
    entries = recipe.entries()
    return (
        recipe.teacher is not None
        and recipe.teacher.cache is None
        and bool(entries)
        and all(entry.method.teaches == "student" for entry in entries)
    )


def reads_tokens(recipe: Recipe) -> bool:
    """Whether a loss of the recipe reads the teacher's tokens."""
    return any(getattr(entry.method, "needs_tokens", False) for entry in recipe.entries())


def without_cache(recipe: Recipe) -> Recipe:
    """The recipe with its teacher as it is, whether or not its outputs are stored."""
    if recipe.teacher is None or recipe.teacher.cache is None:
        return recipe
    return recipe.model_copy(update={"teacher": recipe.teacher.model_copy(update={"cache": None})})


def open_cache(recipe: Recipe, source: Source) -> TeacherCache | None:
    """The cache that a recipe names, if it names one, checked against the recipe's faces and augmentation.

    Raises:
        UsageError: it is of other faces or another augmentation, or not finished.
    """
    if recipe.teacher is None or recipe.teacher.cache is None or not recipe.distillation:
        return None
    cache = TeacherCache(Path(recipe.teacher.cache))
    check_complete(cache)
    card, faces = cache.card, faces_of(source)
    if (card.faces.fingerprint, card.faces.images) != (faces.fingerprint, faces.images):
        raise UsageError(
            f"the cache at {cache.folder} is of {card.faces.name} ({card.faces.images} images), not of {faces.name} "
            f"({faces.images}) as it is now: store the teacher's outputs for these faces in another folder"
        )
    if (asked := recipe.data.augmentation.model_dump(mode="json")) != card.augmentation:
        name = next(name for name in asked if asked[name] != card.augmentation.get(name))
        raise UsageError(
            f"the cache at {cache.folder} is of another augmentation: data.augmentation.{name} is {asked[name]} in the "
            f"recipe and {card.augmentation.get(name)} in the cache; use that, or store the outputs anew"
        )
    return cache
