"""Embeddings in a file, with the names of their images: .npz, .csv, .jsonl. Written row by row: memory stays small."""

import csv
import io
import json
import math
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facekd.common.table import csv_cell
from facekd.common.writing import atomic_file

_BYTES_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class EmbeddingTable:
    """What is written.

    Attributes:
        paths: name of each image; made when it is asked for, perhaps.
        embeddings: float32 [n, e], memory-mapped perhaps.
        labels: int64 [n], the person on each image, of a source that numbers people; None where nobody says.
    """

    paths: Sequence[str]
    embeddings: np.ndarray
    labels: np.ndarray | None = None

    def rows(self) -> Iterator[tuple[str, int | None, np.ndarray]]:
        """(name, label, embedding) of each."""
        for i in range(len(self.embeddings)):
            yield self.paths[i], None if self.labels is None else int(self.labels[i]), self.embeddings[i]


def write_npz(path: Path, table: EmbeddingTable, *, overwrite: bool) -> None:
    """`embeddings` float32 [n, e], `paths` [n] (text), and `labels` int64 [n] where there are any; as numpy.savez."""
    count = len(table.embeddings)
    longest = max((len(table.paths[i]) for i in range(count)), default=1)
    text = np.dtype(f"<U{max(longest, 1)}")
    with atomic_file(path, overwrite=overwrite) as file, zipfile.ZipFile(file, "w") as archive:
        _member(archive, "embeddings", table.embeddings.shape, np.dtype("<f4"), lambda part: table.embeddings[part])
        _member(archive, "paths", (count,), text, lambda part: np.array([table.paths[i] for i in _range(part)], text))
        if (labels := table.labels) is not None:
            _member(archive, "labels", (count,), np.dtype("<i8"), lambda part: labels[part])


def write_csv(path: Path, table: EmbeddingTable, *, overwrite: bool) -> None:
    """A header (path, label where there are any, e0, e1, ...) and a row an image."""
    with atomic_file(path, overwrite=overwrite) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="", write_through=True)
        writer = csv.writer(text)
        labelled = [] if table.labels is None else ["label"]
        writer.writerow(["path", *labelled, *(f"e{i}" for i in range(table.embeddings.shape[1]))])
        for name, label, embedding in table.rows():
            label_cell = [] if label is None else [str(label)]
            writer.writerow([csv_cell(name), *label_cell, *(f"{value:.8g}" for value in embedding)])
        text.detach()


def write_jsonl(path: Path, table: EmbeddingTable, *, overwrite: bool) -> None:
    """An object {"path", "label" where there are any, "embedding"} a line."""
    with atomic_file(path, overwrite=overwrite) as file:
        for name, label, embedding in table.rows():
            labelled = {} if label is None else {"label": label}
            row = {"path": name, **labelled, "embedding": [float(f"{value:.8g}") for value in embedding]}
            file.write((json.dumps(row) + "\n").encode())


WRITERS: dict[str, Callable[..., None]] = {".npz": write_npz, ".csv": write_csv, ".jsonl": write_jsonl}
"""File suffix -> what writes it."""


def estimated_bytes(suffix: str, *, images: int, width: int, name_length: int) -> int:
    """About how large a file of so many embeddings will be, if every image has one.

    Args:
        suffix: of WRITERS.
        images: rows.
        width: numbers an embedding; 14 characters each as text, measured on unit vectors of 512.
        name_length: characters of an image's name; NumPy stores each at the length of the longest.
    """
    row = {".npz": 4 * width + 4 * name_length + 8}.get(suffix, 14 * width + name_length + 40)
    return images * row


def _member(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: np.dtype, part: Callable[[slice], np.ndarray]
) -> None:
    """One array of an .npz, four megabytes of it in memory."""
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        step = max(1, _BYTES_AT_ONCE // (dtype.itemsize * math.prod(shape[1:])))
        for start in range(0, shape[0], step):
            rows = part(slice(start, min(start + step, shape[0])))
            file.write(np.ascontiguousarray(rows, dtype=dtype).tobytes())


def _range(part: slice) -> range:
    return range(part.start, part.stop)
