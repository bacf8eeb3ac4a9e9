"""A folder that replaces another: one of the two is under the name, whatever fails."""

import os
from pathlib import Path

import pytest

from facekd.common import writing
from facekd.common.errors import UsageError
from facekd.common.writing import (
    FolderKind,
    WriteError,
    atomic_file,
    atomic_folder,
    replace_folder,
    staged_folder,
)

KIND = FolderKind("a test folder", lambda folder: {"file"}.__contains__)


def two_folders(place: Path) -> tuple[Path, Path]:
    for name in ("new", "out"):
        (place / name).mkdir(parents=True)
        (place / name / "file").write_text(name)
    return place / "new", place / "out"


@pytest.mark.parametrize("exchanges", [True, False])
def test_the_new_folder_takes_the_place_of_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanges: bool
) -> None:
    if not exchanges:
        monkeypatch.setattr(writing, "_exchange", lambda one, other: False)
    new, out = two_folders(tmp_path)
    replace_folder(new, out)
    assert (out / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_kill_finds_no_moment_without_either_where_names_can_be_exchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not writing._exchange(*two_folders(tmp_path / "trial")):
        pytest.skip("this system or file system exchanges no names")
    new, out = two_folders(tmp_path)
    monkeypatch.setattr(Path, "replace", lambda *paths: pytest.fail("a name was moved on its own"))
    replace_folder(new, out)
    assert (out / "file").read_text() == "new"


def test_the_old_folder_returns_when_the_new_one_cannot_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, out = two_folders(tmp_path)
    monkeypatch.setattr(writing, "_exchange", lambda one, other: False)
    replace = Path.replace

    def fail(source: Path, target: Path) -> Path:
        if source == new:
            raise OSError(28, "No space left on device")
        return replace(source, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        replace_folder(new, out)
    assert (out / "file").read_text() == "out"


def test_two_writers_of_one_folder_keep_out_of_each_others_way(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with staged_folder(out) as first:  # one process, as in two containers, where each is number 1
        (first / "file").write_text("first")
        with staged_folder(out) as second:
            (second / "file").write_text("second")
        assert (out / "file").read_text() == "second"
    assert (out / "file").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("durable", [True, False])
def test_a_folder_has_the_rights_that_the_user_gives(tmp_path: Path, durable: bool) -> None:
    before = os.umask(0o027)
    try:
        with staged_folder(tmp_path / "new" / "out", durable=durable) as folder:
            (folder / "within").mkdir()
            (folder / "within" / "file").touch()
    finally:
        os.umask(before)
    assert (tmp_path / "new" / "out").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "new" / "out" / "within" / "file").is_file()


def test_a_full_disk_leaves_the_old_folder(tmp_path: Path) -> None:
    _, out = two_folders(tmp_path)
    with pytest.raises(WriteError, match="No space"), atomic_folder(out, kind=KIND, overwrite=True) as folder:
        (folder / "file").write_text("half")
        raise OSError(28, "No space left on device")
    assert (out / "file").read_text() == "out"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "out"]


def test_a_file_that_comes_while_the_new_ones_are_flushed_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bundle of gigabytes is on the disk minutes after its last byte is written."""
    _, out = two_folders(tmp_path)
    monkeypatch.setattr(writing, "sync", lambda path: (out / "thesis.txt").write_text("precious"))
    kind = FolderKind("a test folder", lambda folder: {"file"}.__contains__)
    with (
        pytest.raises(UsageError, match=r"'thesis\.txt'"),
        atomic_folder(out, kind=kind, overwrite=True, durable=True) as folder,
    ):
        (folder / "file").write_text("new")
    assert (out / "file").read_text() == "out"
    assert (out / "thesis.txt").read_text() == "precious"


def test_a_file_that_appears_under_the_name_in_the_meantime_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    with pytest.raises(UsageError, match=r"out\.csv exists"), atomic_file(out, overwrite=False) as file:
        file.write(b"new")
        out.write_text("precious")
    assert out.read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]
