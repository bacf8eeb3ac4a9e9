"""Sources into files: RecordIO or a folder of images, whole or not at all."""

import functools
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np

from facekd.common.errors import FacekdError, UsageError
from facekd.common.parallel import SMALL_CHUNK, Shared, ordered_map, share
from facekd.common.progress import Track, silently
from facekd.common.writing import atomic_folder, listed_kind
from facekd.data.decoding import encode_jpeg, encode_png
from facekd.data.record_writer import RecordWriter
from facekd.data.source import Source, UnreadableImage

FACES = listed_kind("a folder of faces that facekd wrote")


def record_path(out: str | Path) -> Path:
    """`out` itself when it names a .rec, else out/train.rec, where training looks for it."""
    out = Path(out)
    return out if out.suffix == ".rec" else out / "train.rec"


def pack_records(
    source: Source,
    out: str | Path,
    *,
    quality: int = 95,
    overwrite: bool = False,
    pool: Executor | None = None,
    track: Track = silently,
) -> dict[str, Any]:
    """Writes a source as RecordIO in InsightFace's layout, one identity after the other.

    Images stored as JPEG or PNG are copied byte for byte once they have been seen to decode; others become PNG, and
    images that were never files (synthetic ones) JPEG of `quality`.

    Args:
        source: what to write.
        out: a .rec, or the folder of a train.rec.
        quality: of JPEGs.
        overwrite: replace what is there.
        pool: reads and decodes (facekd.common.parallel); what is written does not depend on it.
        track: shows progress.

    Returns:
        path, images, identities, and broken: list of [key, reason] of what was left out.
    """
    path = record_path(out)
    broken = [list(pair) for pair in getattr(source, "broken", [])]
    order = np.argsort(source.labels, kind="stable")
    kept: set[int] = set()
    written, height, width = 0, 0, 0
    first = _first_readable(source, order)
    if first is not None:
        height, width = first.shape[:2]
    with RecordWriter(path, size=(height, width), overwrite=overwrite) as writer, share(pool, source) as shared:
        read = functools.partial(_read_stored, shared, quality)
        images = ordered_map(pool, read, order.tolist(), chunk=SMALL_CHUNK)
        for i, image in zip(order.tolist(), track(images, len(order), "packing"), strict=True):
            if isinstance(image, UnreadableImage):
                broken.append([image.key, image.reason])
                continue
            label = int(source.labels[i])
            writer.write(_dense(label, kept), image)
            kept.add(label)
            written += 1
        if not written:
            raise FacekdError(f"{source.name}: not one of {len(source)} images can be used, {_first(broken)}")
    return {"path": str(path), "images": written, "identities": len(kept), "broken": broken}


def write_folder(
    source: Source, out: str | Path, *, quality: int = 95, overwrite: bool = False, track: Track = silently
) -> dict[str, Any]:
    """Writes a source as a folder of JPEGs, one folder an identity. Returns what pack_records returns."""
    out = Path(out)
    broken = [list(pair) for pair in getattr(source, "broken", [])]
    digits = len(str(source.num_identities - 1))
    counts: dict[int, int] = {}
    with atomic_folder(out, kind=FACES, overwrite=overwrite) as folder:
        for i, image in _readable(source, range(len(source)), broken, track, "writing"):
            label = int(source.labels[i])
            file = folder / f"{label:0{digits}d}" / f"{counts.get(label, 0):05d}.jpg"
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(encode_jpeg(image, quality))
            counts[label] = counts.get(label, 0) + 1
        if not counts:
            raise FacekdError(f"{source.name}: not one of {len(source)} images can be used, {_first(broken)}")
    return {"path": str(out), "images": sum(counts.values()), "identities": len(counts), "broken": broken}


def check_apart(source: Path, out: Path) -> None:
    """Raises UsageError when writing `out` would touch what is read from `source`."""
    read, written = source.resolve(), out.resolve()
    if written == read or written in read.parents or (read.is_dir() and read in written.parents):
        raise UsageError(f"{out} and {source} lie in each other: write to a folder beside what is read")


def _readable(
    source: Source, indices: Sequence[int], broken: list[list[str]], track: Track, title: str
) -> Iterator[tuple[int, np.ndarray]]:
    """(i, image) of every image that can be read; [key, reason] of each other one goes into `broken`."""
    for i in track(indices, len(indices), title):
        try:
            image = source.read(i)
        except UnreadableImage as error:
            broken.append([error.key, error.reason])
        else:
            yield i, image


def _dense(label: int, kept: set[int]) -> int:
    """Labels stay 0 .. n - 1 when all images of an identity are broken; identities come in rising order."""
    return len(kept) - 1 if label in kept else len(kept)


def _read_stored(shared: Shared[Source], quality: int, i: int) -> bytes | UnreadableImage:
    """Image `i` as it is written, once it has been seen to decode."""
    source = shared.value
    try:
        return _stored(source, i, source.read(i), quality)
    except UnreadableImage as error:
        return error


def _stored(source: Source, i: int, image: np.ndarray, quality: int) -> bytes:
    encoded = getattr(source, "encoded", None)
    if encoded is None:
        return encode_jpeg(image, quality)
    data: bytes = encoded(i)
    return data if data.startswith((b"\xff\xd8\xff", b"\x89PNG")) else encode_png(image)


def _first_readable(source: Source, order: np.ndarray) -> np.ndarray | None:
    for i in order.tolist():
        try:
            return source.read(i)
        except UnreadableImage:
            continue
    return None


def _first(broken: list[list[str]]) -> str:
    return f"the first {broken[0][0]}: {broken[0][1]}" if broken else "none is broken"
