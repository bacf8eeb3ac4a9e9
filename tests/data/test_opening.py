"""Which kind of source a path or a description opens, and kinds that are code outside facekd."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from facekd.common.errors import UsageError
from facekd.data.opening import open_source
from facekd.data.packing import pack_records, write_folder
from facekd.data.source import Source
from facekd.data.sources import SOURCES, SourceKind
from facekd.data.sources.image_folder import FolderSource
from facekd.data.sources.records import RecordReader
from facekd.data.sources.synthetic import SyntheticSource

KIND = """
from facekd.data.sources import SourceKind
from facekd.data.sources.synthetic import SyntheticSource

class Twins(SourceKind):
    @classmethod
    def open(cls, text, *, size):
        return SyntheticSource(identities=2, images=int(text or 2))
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module outside facekd that holds a kind of source, not trusted."""
    (tmp_path / "twins_of_mine.py").write_text(KIND, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("FACEKD_TRUSTED_MODULES", raising=False)
    yield "twins_of_mine"
    sys.modules.pop("twins_of_mine", None)


@pytest.fixture
def another_kind() -> Iterator[None]:
    """A registered kind that opens folders with a shards.json, as an installed package would add it."""

    class Shards(SourceKind):
        @classmethod
        def opens(cls, path: Path) -> bool:
            return (path / "shards.json").is_file()

        @classmethod
        def open(cls, text: str, *, size: tuple[int, int] | None) -> Source:
            return SyntheticSource(identities=3, images=1)

    SOURCES.names()
    SOURCES.register("shards", Shards)
    yield
    del SOURCES._entries["shards"]


def test_code_is_opened_where_it_is_trusted(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="FACEKD_TRUSTED_MODULES=twins_of_mine"):
        open_source(f"{package}:Twins")
    assert package not in sys.modules  # nothing of it has run
    monkeypatch.setenv("FACEKD_TRUSTED_MODULES", package)
    assert len(open_source(f"{package}:Twins")) == 4
    assert len(open_source(f"{package}:Twins:7")) == 14
    with pytest.raises(UsageError, match="Triplets"):
        open_source(f"{package}:Triplets")


def test_a_kind_is_chosen_by_what_is_there_or_by_its_name(tmp_path: Path) -> None:
    drawn = SyntheticSource(identities=2, images=2)
    write_folder(drawn, tmp_path / "faces")
    pack_records(drawn, tmp_path / "records")
    kinds = {tmp_path / "faces": FolderSource, tmp_path / "records": RecordReader}
    kinds[tmp_path / "records" / "train.rec"] = RecordReader
    for path, kind in kinds.items():
        assert isinstance(open_source(path), kind)
        named = {FolderSource: "image-folder", RecordReader: "records"}[kind]
        assert open_source(f"{named}:{path}").fingerprint() == open_source(path).fingerprint()
    assert len(open_source("synthetic:identities=2,images=2")) == len(drawn)


def test_a_further_kind_is_one_registration(tmp_path: Path, another_kind: None) -> None:
    write_folder(SyntheticSource(identities=2, images=2), tmp_path)
    assert isinstance(open_source(tmp_path), FolderSource)
    (tmp_path / "shards.json").touch()
    assert open_source(tmp_path).num_identities == 3  # a folder of images is what no other kind opens
    pack_records(SyntheticSource(identities=4, images=1), tmp_path / "both")
    (tmp_path / "both" / "shards.json").touch()
    with pytest.raises(UsageError, match="as records and as shards: give records:"):
        open_source(tmp_path / "both")
    np.testing.assert_array_equal(open_source(f"records:{tmp_path / 'both'}").labels, np.arange(4))


def test_what_nothing_opens_is_told_with_what_is(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    examples = ["a .rec file", "a folder of images", "synthetic:identities=64"]
    for text, message in ((tmp_path / "notes.txt", "is not a source of faces"), ("s3:/x", "no data at s3:/x")):
        with pytest.raises(UsageError, match=message) as refused:
            open_source(text)
        assert all(example in str(refused.value) for example in examples)
