"""Makes the index over many .rec files that `facekd.data.sources.record_index` describes and reads."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facekd.common.errors import UsageError
from facekd.common.hashing import parts_sha256
from facekd.common.progress import Track, silently
from facekd.common.writing import atomic_folder, check_replaceable
from facekd.data.source import ALIGNED_SIZE
from facekd.data.sources.record_index import ARRAYS, INDEX, INDEX_FILE, INDEX_SUFFIX, SCHEMA
from facekd.data.sources.records import RecordReader


def write_index(
    records: Sequence[Path],
    out: Path,
    *,
    root: str | None = None,
    size: tuple[int, int] | None = ALIGNED_SIZE,
    overwrite: bool = False,
    track: Track = silently,
) -> dict[str, Any]:
    """Makes an index of local .rec files; returns images, identities, files, broken and the place they are read from.

    Args:
        records: the files, each with its .idx (or scanned). A label means the same identity in each.
        out: the index, a folder whose name ends in .faces; appears whole or not at all.
        root: where the files will be read, a folder or protocol://path; None: where they are now.
        size: (height, width) the images must have (the first readable one of each file is looked at); None admits any.
        overwrite: replace an index that is there.
        track: shows progress.
    """
    if out.suffix != INDEX_SUFFIX:
        raise UsageError(f"cannot write an index to {out}: the name must end in {INDEX_SUFFIX}")
    if len({record.name for record in records}) < len(records):
        raise UsageError("two of the .rec files have one name: they are told apart by it, rename one")
    if not 1 <= len(records) <= 65_536:
        raise UsageError(f"{len(records)} files: give 1 to 65,536")
    check_replaceable(out, INDEX, overwrite=overwrite)
    columns: dict[str, list[np.ndarray]] = {name: [] for name in ("files", "offsets", "keys", "values")}
    files, broken = [], []
    for number, path in enumerate(track(records, len(records), "indexing")):
        reader = RecordReader(path, size=size)
        keys, offsets, values = reader.table()
        for name, column in (("keys", keys), ("offsets", offsets), ("values", values)):
            columns[name].append(column)
        columns["files"].append(np.full(len(keys), number, dtype=np.uint16))
        files.append({"name": path.name, "size": path.stat().st_size})
        broken += [[f"{path.name}:{key}", reason] for key, reason in reader.broken]
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    joined["label_values"], labels = np.unique(joined.pop("values"), return_inverse=True)
    joined["labels"], joined["keys"] = _smallest(labels), _smallest(joined["keys"])
    place = root or _common_folder(records)
    sizes = ",".join(f"{file['name']}={file['size']}" for file in files)
    facts = {
        "schema": SCHEMA, "root": place, "files": files, "images": len(labels),
        "identities": len(joined["label_values"]), "broken": broken,
        "fingerprint": parts_sha256("index", sizes, *(joined[name] for name in ARRAYS)),
    }  # fmt: skip
    with atomic_folder(out, kind=INDEX, overwrite=overwrite) as folder:
        for name in ARRAYS:
            np.save(folder / f"{name}.npy", joined[name])
        (folder / INDEX_FILE).write_text(json.dumps(facts, indent=1), encoding="utf-8")
    summary = {"images": len(labels), "identities": facts["identities"], "files": len(files)}
    return {**summary, "read_from": place, "broken": broken, "fingerprint": facts["fingerprint"]}


def _smallest(column: np.ndarray) -> np.ndarray:
    """As int32 where every value fits, else int64."""
    return column.astype(np.int32 if np.abs(column).max() < 1 << 31 else np.int64)


def _common_folder(records: Sequence[Path]) -> str:
    folders = {record.resolve().parent for record in records}
    if len(folders) > 1:
        raise UsageError(f"the .rec files lie in {len(folders)} folders: put them into one, or say --root")
    return str(folders.pop())
