"""`facekd embed`: image files to embeddings in one file, and what could not be embedded."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facekd.common.errors import FacekdError, UsageError
from facekd.common.table import csv_cell
from facekd.common.writing import atomic_file
from facekd.data.decoding import check_size, decode_image
from facekd.data.detection import YuNet
from facekd.data.image_files import in_words, list_images, read_image_file
from facekd.data.source import UnreadableImage
from facekd.evaluation.embedding import embed_images
from facekd.evaluation.photographs import FaceCrop, crop_face
from facekd.runtimes.embedder import Embedder

CHUNK = 1024


@dataclass(frozen=True)
class FileEmbeddings:
    """Embeddings of files.

    Attributes:
        paths: of the images that were embedded, in the order asked for.
        embeddings: float32 [n, e].
        skipped: path -> why it has none.
    """

    paths: list[Path]
    embeddings: np.ndarray
    skipped: dict[Path, str]


def embed_files(
    embedder: Embedder,
    paths: Sequence[Path],
    *,
    detector: YuNet | None = None,
    flip: bool = True,
    normalise: bool = True,
    batch_size: int = 64,
    progress: bool = False,
) -> FileEmbeddings:
    """Embeds image files, a thousand held at a time.

    Args:
        embedder: see facekd.runtimes.opening.open_model.
        paths: image files; aligned crops of the embedder's size, or photographs where `detector` is given.
        detector: finds and aligns the largest central face.
        flip: add the mirrored image's embedding.
        normalise: L2-normalise; else raw, the norm kept.
        batch_size: images a batch.
        progress: show a bar on stderr.
    """
    kept: list[Path] = []
    skipped: dict[Path, str] = {}
    parts = []
    for start in range(0, len(paths), CHUNK):
        crops = []
        for path in paths[start : start + CHUNK]:
            try:
                crops.append(read_crop(path, embedder, detector).image)
                kept.append(path)
            except UnreadableImage as error:
                skipped[path] = error.reason
        description = f"embed {min(start + CHUNK, len(paths))}/{len(paths)}"
        parts.append(
            embed_images(embedder, crops, flip=flip, batch_size=batch_size, progress=progress, description=description)
        )
    embeddings = np.concatenate(parts)
    if normalise:
        norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
        if (bad := np.flatnonzero(~np.isfinite(norms) | (norms == 0))).size:
            raise FacekdError(f"the embedding of {kept[bad[0]]} is zero or not finite: check the model's input spec")
        embeddings = embeddings / norms
    return FileEmbeddings(paths=kept, embeddings=embeddings, skipped=skipped)


def read_crop(image: str | Path | np.ndarray, embedder: Embedder, detector: YuNet | None) -> FaceCrop:
    """An image as the model's aligned crop; without a detector it must be one already (then score 1, 1 face).

    Args:
        image: a file, or uint8 RGB [h, w, 3].
        embedder: the model.
        detector: finds the face.

    Raises:
        UnreadableImage: not an image, no face found, or not of the model's size.
    """
    name = "the image" if isinstance(image, np.ndarray) else str(image)
    pixels = image if isinstance(image, np.ndarray) else decode_image(read_image_file(Path(image)), name)
    if detector is None:
        check_size(pixels, name, embedder.input.size)
        return FaceCrop(image=pixels, score=1.0, faces=1)
    crop = crop_face(pixels, detector, embedder.input.size)
    if crop is None:
        raise UnreadableImage(name, "no face found")
    return crop


def find_images(paths: Sequence[Path]) -> tuple[list[Path], dict[Path, str]]:
    """Files as given, folders as the image files under them, sorted; and what was passed over in folders, with why.

    Raises:
        UsageError: a path that is not there, or a folder without images.
    """
    found: list[Path] = []
    passed_over: dict[Path, str] = {}
    for path in paths:
        if path.is_dir():
            files = list_images(path)
            if not files.images:
                others = f"; it holds {', '.join(in_words(files.passed_over))}" if files.passed_over else ""
                raise UsageError(f"folder {path} holds no image{others}")
            found += [path / image for image in sorted(files.images)]
            passed_over |= {path / name: why for name, why in files.passed_over}
        elif path.exists():
            found.append(path)
        else:
            raise UsageError(f"image {path} does not exist: give image files or folders of them")
    return found, passed_over


def write_npz(path: Path, result: FileEmbeddings, *, overwrite: bool) -> None:
    """`embeddings` float32 [n, e] and `paths` [n] (text)."""
    with atomic_file(path, overwrite=overwrite) as file:
        np.savez(file, embeddings=result.embeddings, paths=np.array([str(p) for p in result.paths], dtype=np.str_))


def write_csv(path: Path, result: FileEmbeddings, *, overwrite: bool) -> None:
    """A header (path, e0, e1, ...) and a row an image."""
    with atomic_file(path, overwrite=overwrite) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="", write_through=True)
        writer = csv.writer(text)
        writer.writerow(["path", *(f"e{i}" for i in range(result.embeddings.shape[1]))])
        for image, embedding in zip(result.paths, result.embeddings, strict=True):
            writer.writerow([csv_cell(str(image)), *(f"{value:.8g}" for value in embedding)])
        text.detach()


def write_jsonl(path: Path, result: FileEmbeddings, *, overwrite: bool) -> None:
    """An object {"path", "embedding"} a line."""
    with atomic_file(path, overwrite=overwrite) as file:
        for image, embedding in zip(result.paths, result.embeddings, strict=True):
            row = {"path": str(image), "embedding": [float(f"{value:.8g}") for value in embedding]}
            file.write((json.dumps(row) + "\n").encode())


WRITERS = {".npz": write_npz, ".csv": write_csv, ".jsonl": write_jsonl}
"""File suffix -> what writes it."""
