"""What is in a source: counts, sizes, what is broken, and a sheet of it to look at."""

import functools
import itertools
from collections import Counter
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from facekd.common.errors import UsageError
from facekd.common.parallel import SMALL_CHUNK, Shared, ordered_map, share
from facekd.common.progress import Track, silently
from facekd.common.writing import atomic_file
from facekd.data.decoding import encode_png
from facekd.data.source import Source, UnreadableImage

_BINS = (1, 2, 5, 10, 20, 50, 100, 200)


def inspect_source(
    source: Source, *, decode: bool = True, pool: Executor | None = None, track: Track = silently
) -> dict[str, Any]:
    """Summarises a source.

    Args:
        source: opened with size=None, so that every size is seen.
        decode: read every image; without it only what the headers say is reported.
        pool: reads and decodes (facekd.common.parallel).
        track: shows progress.

    Returns:
        name, images, identities, images_per_identity (min, quartiles, max, mean), histogram: list of
        [images an identity, identities], sizes: {"112x112": images} or None, broken: list of [key, reason],
        index_rebuilt, fingerprint.
    """
    counts = np.bincount(source.labels, minlength=source.num_identities)
    quartiles = np.percentile(counts, [0, 25, 50, 75, 100])
    broken = [list(pair) for pair in getattr(source, "broken", [])]
    sizes: Counter[str] | None = None
    if decode:
        sizes = Counter()
        with share(pool, source) as shared:
            read = functools.partial(_size_of, shared)
            found = ordered_map(pool, read, range(len(source)), chunk=SMALL_CHUNK)
            for size in track(found, len(source), "reading"):
                if isinstance(size, UnreadableImage):
                    broken.append([size.key, size.reason])
                else:
                    sizes[size] += 1
    return {
        "name": source.name,
        "images": len(source),
        "identities": source.num_identities,
        "images_per_identity": {
            **dict(zip(("min", "q25", "median", "q75", "max"), quartiles.tolist(), strict=True)),
            "mean": float(counts.mean()),
        },
        "histogram": _histogram(counts),
        "sizes": dict(sizes.most_common()) if sizes is not None else None,
        "broken": broken,
        "index_rebuilt": getattr(source, "index_rebuilt", None),
        "fingerprint": source.fingerprint(),
    }


def write_sheet(
    source: Source, path: str | Path, *, rows: int = 8, columns: int = 10, side: int = 112, overwrite: bool = False
) -> int:
    """Writes a PNG with one identity a row and its number of images; images are fitted into squares.

    The identities are spread evenly over those with the most images, since whether a row shows one person can be seen
    only where it shows several. At most `rows` identities and `columns` images of each: fewer where the source has
    fewer. Returns the images shown.
    """
    if Path(path).suffix.lower() != ".png":
        raise UsageError(f"the contact sheet is a PNG: {path} should end in .png")
    counts = np.bincount(source.labels, minlength=source.num_identities)
    enough = min(columns, int(np.sort(counts)[-min(rows, len(counts))]))
    candidates = np.flatnonzero(counts >= enough)
    identities = candidates[np.unique(np.linspace(0, len(candidates) - 1, rows).round().astype(int))]
    order = np.argsort(source.labels, kind="stable")
    starts = np.searchsorted(source.labels[order], [identities, identities + 1])
    columns = min(columns, int((starts[1] - starts[0]).max()))
    gap, label = max(2, side // 28), 90
    heading = 28
    sheet = np.full(
        (heading + len(identities) * (side + gap) + gap, label + columns * (side + gap) + gap, 3), 245, np.uint8
    )
    _write(sheet, f"{source.name}: {len(source):,} images of {source.num_identities:,} identities", (gap, 20))
    shown = 0
    for row, (start, end) in enumerate(starts.T.tolist()):
        top = heading + gap + row * (side + gap)
        _write(sheet, f"no. {int(identities[row]):,}", (gap, top + side // 2 - 6))
        _write(sheet, f"{end - start:,} image{'' if end - start == 1 else 's'}", (gap, top + side // 2 + 14))
        column = 0
        for i in order[start:end].tolist():
            if column == columns:
                break
            try:
                image = source.read(i)
            except UnreadableImage:
                continue
            left = label + gap + column * (side + gap)
            sheet[top : top + side, left : left + side] = _fitted(image, side)
            column += 1
        shown += column
    with atomic_file(Path(path), overwrite=overwrite) as file:
        file.write(encode_png(sheet))
    return shown


def _size_of(shared: Shared[Source], i: int) -> str | UnreadableImage:
    try:
        height, width = shared.value.read(i).shape[:2]
    except UnreadableImage as error:
        return error
    return f"{width}x{height}"


def _write(image: np.ndarray, text: str, place: tuple[int, int]) -> None:
    ascii_only = text.encode("ascii", "replace").decode()  # OpenCV's font has no other letters
    cv2.putText(image, ascii_only, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (40, 40, 40), 1, cv2.LINE_AA)


def _fitted(image: np.ndarray, side: int) -> np.ndarray:
    """Scaled to fit a black square."""
    height, width = image.shape[:2]
    if (height, width) == (side, side):
        return image
    scale = side / max(height, width)
    reduced = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(image, reduced, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    out = np.zeros((side, side, 3), np.uint8)
    top, left = (side - small.shape[0]) // 2, (side - small.shape[1]) // 2
    out[top : top + small.shape[0], left : left + small.shape[1]] = small
    return out


def _histogram(counts: np.ndarray) -> list[tuple[str, int]]:
    edges = [*_BINS, int(max(counts.max(), _BINS[-1])) + 1]
    rows = []
    for low, high in itertools.pairwise(edges):
        inside = int(((counts >= low) & (counts < high)).sum())
        last = low == _BINS[-1]
        name = f"{low} and more" if last else str(low) if high == low + 1 else f"{low} to {high - 1}"
        rows.append((name, inside))
    while len(rows) > 1 and rows[-1][1] == 0:
        rows.pop()
    return rows
