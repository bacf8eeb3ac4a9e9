"""Features of long lists of images, computed once: cached by (model, list), going on where an interruption left off.

A cache is a folder. For each pair there is KEY.npy (float32 [n, e], written in order) and KEY.json, which says how many
rows are safely on disk. It is advanced after the rows are synced, so a kill at any moment costs at most one chunk.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from facekd.common.errors import FacekdError
from facekd.common.hashing import parts_sha256
from facekd.common.locking import locked
from facekd.common.progress import progress_bar
from facekd.common.writing import atomic_file
from facekd.evaluation.embedding import embed_images
from facekd.runtimes.base import get_runtime
from facekd.runtimes.embedder import Embedder
from facekd.runtimes.files import ModelFiles
from facekd.schemas.card import CARD_FILE, read_card
from facekd.schemas.manifest import MANIFEST_FILE, read_manifest

CHUNK = 2048
"""Images between two syncs."""


class ListedImages(Protocol):
    """Images with a fingerprint of all that decides about their pixels."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int) -> np.ndarray: ...

    def fingerprint(self) -> str: ...


@dataclass(frozen=True)
class CachedFeatures:
    """Attributes:
    features: float32 [n, e], memory-mapped, raw: f(x) + f(flip(x)).
    computed: how many of them were computed now; 0 when all were there.
    path: the .npy file.
    """

    features: np.ndarray
    computed: int
    path: Path


class FeatureCache:
    """A folder of features.

    Args:
        folder: made when needed. Features of faces are biometric data: keep it where the images may be kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def features(
        self,
        embedder: Embedder,
        images: ListedImages,
        *,
        model_sha256: str,
        batch_size: int = 128,
        progress: bool = False,
        description: str = "embed",
    ) -> CachedFeatures:
        """The features of `images`, from the cache, or computed into it.

        Args:
            embedder: the model.
            images: the list.
            model_sha256: of the model's weights (see model_sha256).
            batch_size: images a batch.
            progress: show a bar on stderr.
            description: the bar's text.

        Raises:
            FacekdError: an image cannot be read (what was computed stays), the disk is full, another process is at it.
        """
        list_sha256 = images.fingerprint()
        spec = embedder.input.model_dump_json()
        key = parts_sha256("features 1, flip-sum", model_sha256, list_sha256, spec, str(embedder.embedding_width))[:32]
        path, state = self.folder / f"{key}.npy", self.folder / f"{key}.json"
        facts = {
            "model_sha256": model_sha256, "list_sha256": list_sha256, "images": len(images),
            "width": embedder.embedding_width, "description": description,
        }  # fmt: skip
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with locked(self.folder / f"{key}.lock", "computing these features"):
                done = _rows_on_disk(path, state, facts)
                computed = len(images) - done
                if computed:
                    self._compute(embedder, images, path, state, facts, done, batch_size, progress)
        except OSError as error:
            raise FacekdError(f"cannot write features to {self.folder}: {error.strerror or error}") from None
        return CachedFeatures(np.load(path, mmap_mode="r"), computed, path)

    def _compute(
        self,
        embedder: Embedder,
        images: ListedImages,
        path: Path,
        state: Path,
        facts: dict[str, object],
        done: int,
        batch_size: int,
        progress: bool,
    ) -> None:
        header = _header(len(images), embedder.embedding_width)
        row_bytes = 4 * embedder.embedding_width
        chunk = -(-CHUNK // batch_size) * batch_size  # whole batches, so that a resumed run cuts them alike
        with (
            path.open("r+b" if path.exists() else "w+b") as file,
            progress_bar(str(facts["description"]), len(images), done=done, shown=progress) as bar,
        ):
            if done == 0:
                file.write(header)
            file.truncate(len(header) + done * row_bytes)
            file.seek(0, os.SEEK_END)
            for start in range(done, len(images), chunk):
                part = _Part(images, start, min(start + chunk, len(images)))
                file.write(embed_images(embedder, part, batch_size=batch_size).tobytes())
                file.flush()
                os.fsync(file.fileno())
                with atomic_file(state, overwrite=True) as note:
                    note.write(json.dumps({**facts, "done": part.end}).encode())
                bar.move(part.end)


class _Part(Sequence[np.ndarray]):
    """Images `start` to `end` of a list."""

    def __init__(self, images: ListedImages, start: int, end: int) -> None:
        self._images, self._start, self.end = images, start, end

    def __len__(self) -> int:
        return self.end - self._start

    def __getitem__(self, i: int) -> np.ndarray:  # type: ignore[override]
        if not 0 <= i < len(self):
            raise IndexError(i)
        return self._images[self._start + i]


def model_sha256(path: Path, *, runtime: str | None = None) -> str:
    """What identifies a model's numbers: its files, and what a card or manifest says of how they are to be used.

    Args:
        path: the model.
        runtime: name of the runtime that opens it; default: the registered one.
    """
    content = ModelFiles.of(path, runtime=None if runtime is None else get_runtime(runtime)).sha256
    if (path / CARD_FILE).is_file():
        return parts_sha256(content, read_card(path).architecture.model_dump_json())
    if (path / MANIFEST_FILE).is_file():
        return parts_sha256(content, read_manifest(path).input.model_dump_json())
    return content


def default_cache() -> Path:
    """$XDG_CACHE_HOME/facekd/features, or the same under ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "facekd" / "features"


def _rows_on_disk(path: Path, state: Path, facts: dict[str, object]) -> int:
    """How many rows can be trusted; 0 where the files are damaged or belong to something else."""
    try:
        noted = json.loads(state.read_text())
        size, header = path.stat().st_size, _header(int(noted["images"]), int(noted["width"]))
        done = int(noted["done"])
        with path.open("rb") as file:
            begins_well = file.read(len(header)) == header
    except (OSError, ValueError, KeyError, TypeError):
        return 0
    same = all(noted.get(key) == facts[key] for key in ("model_sha256", "list_sha256", "images", "width"))
    whole = size >= len(header) + 4 * int(noted["width"]) * done
    return done if same and begins_well and whole and 0 <= done <= int(noted["images"]) else 0


def _header(rows: int, width: int) -> bytes:
    """The .npy header of float32 [rows, width]."""
    import io

    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": (rows, width)})
    return stream.getvalue()
