"""Faces in Parquet, as the Hugging Face Hub keeps them: a column of encoded images, a column of labels, any shards.

An image is read with the whole row group that holds it, so reading at random is slow: `facekd data pack` makes RecordIO
of it once, for training.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from facekd.common.errors import FacekdError, UsageError, first_line, require_modules
from facekd.common.hashing import parts_sha256
from facekd.data.decoding import check_first_size
from facekd.data.encoded_source import EncodedSource, label_of, same_kind
from facekd.data.source import ALIGNED_SIZE, Source, UnreadableImage
from facekd.data.sources import SOURCES, SourceKind

IMAGE_COLUMNS = ("image", "img", "face", "jpg", "jpeg", "png", "webp", "bytes")
LABEL_COLUMNS = (
    "label",
    "labels",
    "identity",
    "identity_id",
    "id",
    "person",
    "person_id",
    "class",
    "name",
    "target",
    "cls",
)


class ParquetSource(EncodedSource):
    """Images of one or several .parquet files.

    Attributes:
        image_column, label_column: the columns that were taken.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        size: tuple[int, int] | None = ALIGNED_SIZE,
        image: str | None = None,
        label: str | None = None,
    ) -> None:
        """
        Args:
            path: a .parquet file, or a folder of them (or of data/*.parquet); of the splits train and test, train.
            size: (height, width) every image must have; None admits any.
            image, label: names of the columns; default: those the field uses.

        Raises:
            UsageError: there is no such file, or pyarrow is not installed.
            FacekdError: no such columns, a damaged file, or no labelled image.
        """
        require_modules("a .parquet file", ["pyarrow"], extra="parquet")
        import pyarrow  # type: ignore[import-untyped]
        from pyarrow import parquet

        self.path = Path(path)
        self.size = size
        self._files = parquet_files(self.path)
        if not self._files:
            raise UsageError(f"no .parquet file at {self.path}")
        self.name = self.path.resolve().stem if self.path.is_file() else self.path.resolve().name
        self.broken = []
        self._group: tuple[tuple[int, int], Any] | None = None
        names = None
        values: list[int | str] = []
        self._places: list[tuple[int, int, int]] = []  # file, row group, row in it
        for number, file in enumerate(self._files):
            try:
                opened = parquet.ParquetFile(file)
                schema = opened.schema_arrow
                if number == 0:
                    self.image_column = _column(file, schema, image, IMAGE_COLUMNS, "image")
                    self.label_column = _column(file, schema, label, LABEL_COLUMNS, "label")
                    names = _class_names(schema, self.label_column)
                for group in range(opened.num_row_groups):
                    column = opened.read_row_group(group, columns=[self.label_column]).column(0).to_pylist()
                    self._take(number, group, column, values)
            except (pyarrow.ArrowException, OSError, KeyError) as error:
                raise FacekdError(f"{file} cannot be read as Parquet: {first_line(error)}") from None
        self.label_by(same_kind(values), names=names)
        self.require_images(self.path)
        check_first_size(self.path, self.encoded, len(self), size)

    def _take(self, file: int, group: int, column: list[Any], values: list[int | str]) -> None:
        for row, value in enumerate(column):
            try:
                values.append(label_of(value))
            except ValueError as error:
                self.broken.append((f"{self._files[file].name}, row group {group}, row {row}", str(error)))
            else:
                self._places.append((file, group, row))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_group": None}

    def __len__(self) -> int:
        return len(self._places)

    def key(self, i: int) -> str:
        file, group, row = self._places[i]
        return f"{self._files[file].stem}/{group}/{row}"

    def encoded(self, i: int) -> bytes:
        file, group, row = self._places[i]
        if self._group is None or self._group[0] != (file, group):
            from pyarrow import parquet

            table = parquet.ParquetFile(self._files[file]).read_row_group(group, columns=[self.image_column])
            self._group = (file, group), table.column(0).combine_chunks()
        value = self._group[1][row].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if not data:
            where = value.get("path") if isinstance(value, dict) else None
            raise UnreadableImage(self.key(i), f"only a path is stored: {where}" if where else "no image in this row")
        return bytes(data)

    def fingerprint(self) -> str:
        sizes = np.array([file.stat().st_size for file in self._files], dtype=np.int64)
        return parts_sha256("parquet", "\0".join(file.name for file in self._files), sizes, self.labels)


def parquet_files(path: Path) -> list[Path]:
    """The shards at a path, in order of their names; where some are named for a split train, those."""
    if path.is_file():
        return [path]
    found = sorted(file for folder in (path, path / "data") if folder.is_dir() for file in folder.glob("*.parquet"))
    return [file for file in found if file.name.startswith("train")] or found


def _column(file: Path, schema: Any, wanted: str | None, usual: tuple[str, ...], what: str) -> str:
    there: list[str] = list(schema.names)
    if wanted is not None:
        if wanted in there:
            return wanted
        raise UsageError(f"{file} has no column {wanted}: it has {', '.join(there[:12])}")
    if found := [name for name in usual if name in there]:
        return found[0]
    raise FacekdError(
        f"{file} has no {what} column that is known by its name: it has {', '.join(there[:12])}; choose with "
        f"parquet:PATH,{what}=COLUMN"
    )


def _class_names(schema: Any, column: str) -> list[str] | None:
    """Names of the numbers of a ClassLabel column, as the Hub's datasets library stores them."""
    stored = (schema.metadata or {}).get(b"huggingface")
    try:
        feature = json.loads(stored)["info"]["features"][column] if stored else {}
        names = feature.get("names")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return [str(name) for name in names] if isinstance(names, list) else None


@SOURCES.decorator("parquet")
class ParquetKind(SourceKind):
    """A .parquet file or a folder of them; `parquet:PATH,image=COLUMN,label=COLUMN` chooses the columns."""

    example = "a .parquet file or a folder of them"

    @classmethod
    def opens(cls, path: Path) -> bool:
        return (path.is_file() and path.suffix == ".parquet") or (path.is_dir() and bool(parquet_files(path)))

    @classmethod
    def open(cls, text: str, *, size: tuple[int, int] | None) -> Source:
        path, *options = text.split(",")
        chosen = dict(option.partition("=")[::2] for option in options)
        if unknown := sorted(set(chosen) - {"image", "label"}):
            raise UsageError(f"parquet:{text}: unknown option {unknown[0]}; valid are image=COLUMN and label=COLUMN")
        return ParquetSource(path, size=size, image=chosen.get("image"), label=chosen.get("label"))
