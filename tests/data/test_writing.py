"""A folder that replaces another: one of the two is under the name, whatever fails."""

from pathlib import Path

import pytest

from facekd.data import writing
from facekd.data.writing import replace_folder


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
