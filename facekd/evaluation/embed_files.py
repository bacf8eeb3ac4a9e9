"""`facekd embed`: images to embeddings in one file; what is computed outlives a kill and a full disk."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facekd.common.disk_space import require_space
from facekd.common.errors import FacekdError
from facekd.common.parts import SUFFIX, kept_said
from facekd.common.progress import progress_bar
from facekd.common.writing import WriteError, check_free
from facekd.data.decoding import decode_image
from facekd.data.detection import FaceDetector
from facekd.data.image_files import read_image_file
from facekd.evaluation.embed_inputs import NamedImages
from facekd.evaluation.embedding import embed_images
from facekd.evaluation.embedding_files import WRITERS, EmbeddingTable, estimated_bytes
from facekd.evaluation.embedding_parts import EmbeddingParts, open_embedding_parts
from facekd.evaluation.face_crops import face_crop, read_crops
from facekd.evaluation.photographs import FaceCrop
from facekd.runtimes.embedder import Embedder

BATCHES_A_PART = 8
"""Batches between two syncs."""


@dataclass(frozen=True)
class Embedded:
    """What became of the images.

    Attributes:
        embedded: how many have an embedding in the file.
        before: how many images an earlier run had looked at already.
        skipped: (name, why) of those that have none.
    """

    embedded: int
    before: int
    skipped: list[tuple[str, str]]


def embed_to_file(
    embedder: Embedder,
    images: NamedImages,
    out: Path,
    *,
    facts: Mapping[str, str],
    detector: FaceDetector | None = None,
    flip: bool = True,
    normalise: bool = True,
    batch_size: int = 64,
    overwrite: bool = False,
    pool: Executor | None = None,
    progress: bool = False,
) -> Embedded:
    """Embeds images into a file. What is computed is kept in OUT.parts until the file is there: run again, it goes on.

    Args:
        embedder: see facekd.runtimes.opening.open_model.
        images: aligned crops of the embedder's size, or photographs where `detector` is given.
        out: a name that ends in one of embedding_files.WRITERS.
        facts: what else decides about the numbers, by name: the model, options. Parts with other facts are refused.
        detector: finds and aligns the largest central face.
        flip: add the mirrored image's embedding.
        normalise: L2-normalise; else raw, the norm kept.
        batch_size: images a batch.
        overwrite: replace a file at `out`, and parts with other facts.
        pool: reads and aligns images while the model runs here (facekd.common.parallel); the file is the same.
        progress: show a bar on stderr.

    Raises:
        UsageError: `out` is taken, or there are parts of another model, other images or options.
        WriteError: the disk is full, or would be; what is computed stays.
        Interrupted: by Ctrl-C; what is computed stays.
        FacekdError: no image could be embedded, or the embedding of one is zero or not finite.
    """
    check_free(out, overwrite=overwrite)
    facts = {
        **facts, "set of images": images.fingerprint(), "--batch-size": str(batch_size), "--flip": str(flip),
        "--raw": str(not normalise), "input": embedder.input.model_dump_json(),
    }  # fmt: skip
    place = out.with_name(out.name + SUFFIX)
    width, name_length = embedder.embedding_width, _name_length(images)
    with (
        _system_errors_said(place),
        open_embedding_parts(place, facts, images=len(images), width=width, overwrite=overwrite) as parts,
        kept_said(parts, "images", nothing="nothing was computed yet"),
    ):
        before = parts.done
        file_bytes = estimated_bytes(out.suffix, images=len(images), width=width, name_length=name_length)
        require_space(out, file_bytes + (len(images) - before) * (4 * width + 8), f"{len(images):,} embeddings")
        _compute(embedder, images, parts, detector, flip, normalise, batch_size, pool, progress)
        skipped = [*parts.skipped(), *images.passed_over]
        if parts.rows == 0:
            name, why = skipped[0]
            parts.remove()
            raise FacekdError(f"none of {len(images)} images could be embedded; the first, {name}: {why}")
        indices = parts.indices()
        labels = None if images.labels is None else images.labels[indices]
        table = EmbeddingTable(_Names(images, indices), parts.embeddings(), labels)
        WRITERS[out.suffix](out, table, overwrite=overwrite)
        result = Embedded(parts.rows, before, skipped)
        parts.remove()
    return result


def read_crop(image: str | Path | np.ndarray, embedder: Embedder, detector: FaceDetector | None) -> FaceCrop:
    """An image as the model's aligned crop; without a detector it must be one already (then score 1, 1 face).

    Args:
        image: a file, or uint8 RGB [h, w, 3].
        embedder: the model.
        detector: finds the face.

    Raises:
        UnreadableImage: not an image, no face found, or not of the model's size.
    """
    if isinstance(image, np.ndarray):
        return face_crop(image, "the image", embedder.input.size, detector)
    pixels = decode_image(read_image_file(Path(image)), str(image))
    return face_crop(pixels, str(image), embedder.input.size, detector)


def _compute(
    embedder: Embedder,
    images: NamedImages,
    parts: EmbeddingParts,
    detector: FaceDetector | None,
    flip: bool,
    normalise: bool,
    batch_size: int,
    pool: Executor | None,
    progress: bool,
) -> None:
    """Embeds what is not done. Parts begin at multiples of their size, so that a resumed run cuts batches alike."""
    step = BATCHES_A_PART * batch_size
    todo, size = range(parts.done, len(images)), embedder.input.size
    read = read_crops(pool, images, todo, size=size, detector=detector, ahead=2 * step)
    with progress_bar("embed", len(images), done=parts.done, shown=progress) as bar, closing(read):
        for start in range(parts.done, len(images), step):
            crops, kept, skipped = [], [], []
            for i, crop in zip(range(start, min(start + step, len(images))), read, strict=False):
                if isinstance(crop, str):
                    skipped.append((images.name(i), crop))  # named only now: a source may make the name anew each time
                else:
                    crops.append(crop)
                    kept.append(i)
            embeddings = embed_images(embedder, crops, flip=flip, batch_size=batch_size)
            if normalise:
                embeddings = _normalised(embeddings, images, kept)
            parts.add(min(start + step, len(images)), np.array(kept, dtype=np.int64), embeddings, skipped)
            bar.move(parts.done)


def _normalised(embeddings: np.ndarray, images: NamedImages, kept: Sequence[int]) -> np.ndarray:
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    if (bad := np.flatnonzero(~np.isfinite(norms) | (norms == 0))).size:
        name = images.name(kept[bad[0]])
        raise FacekdError(f"the embedding of {name} is zero or not finite: check the model's input spec")
    unit: np.ndarray = embeddings / norms
    return unit


def _name_length(images: NamedImages, *, looked_at: int = 1000) -> int:
    """Characters of the longest name among a thousand spread over all."""
    return max(len(images.name(i)) for i in range(0, len(images), max(1, len(images) // looked_at)))


class _Names(Sequence[str]):
    """The names of some of the images."""

    def __init__(self, images: NamedImages, indices: np.ndarray) -> None:
        self._images, self._indices = images, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, i: int) -> str:  # type: ignore[override]
        return self._images.name(int(self._indices[i]))


@contextmanager
def _system_errors_said(place: Path) -> Iterator[None]:
    """What the system says where the folder cannot even be made."""
    try:
        yield
    except OSError as error:
        raise WriteError(f"cannot write {place}: {error.strerror or error}") from None
