"""Image folders, limits on a source, and what is refused."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

from facekd.common.errors import FacekdError, UsageError
from facekd.data.decoding import encode_png
from facekd.data.image_files import list_images
from facekd.data.opening import open_source
from facekd.data.source import Source, UnreadableImage
from facekd.data.sources.image_folder import FolderSource
from facekd.data.subset import Subset


def picture(value: int, side: int = 112) -> bytes:
    return encode_png(np.full((side, side, 3), value, np.uint8))


def make(folder: Path, counts: dict[str, int]) -> Path:
    for person, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for k in range(count):
            (folder / name / f"{k}.png").write_bytes(picture(10 * person + k))
    return folder


def test_identities_and_images_in_sorted_order(tmp_path: Path) -> None:
    make(tmp_path, {"b": 2, "a": 1, "c": 3})
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / "readme.md").write_text("no folder")
    (tmp_path / "empty").mkdir()
    (tmp_path / ".hidden").mkdir()
    source = open_source(tmp_path)
    assert isinstance(source, FolderSource) and isinstance(source, Source)
    assert source.identities == ["a", "b", "c"] and source.empty_identities == ["empty"]
    assert source.labels.tolist() == [0, 1, 1, 2, 2, 2] and source.num_identities == 3
    assert source.key(1) == "b/0.png"
    assert source.read(1)[0, 0].tolist() == [0, 0, 0] and source.read(0)[0, 0].tolist() == [10, 10, 10]


def test_fingerprint_follows_the_files(tmp_path: Path) -> None:
    make(tmp_path, {"a": 2, "b": 2})
    before = open_source(tmp_path).fingerprint()
    assert open_source(tmp_path).fingerprint() == before
    (tmp_path / "b" / "new.png").write_bytes(picture(99))
    assert open_source(tmp_path).fingerprint() != before


def test_links_in_a_circle_are_survived(tmp_path: Path) -> None:
    make(tmp_path, {"a": 1})
    (tmp_path / "a" / "loop.png").symlink_to(tmp_path / "a" / "loop.png")
    (tmp_path / "a" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "self").symlink_to(tmp_path, target_is_directory=True)
    assert len(open_source(tmp_path)) == 1
    assert [file.as_posix() for file in list_images(tmp_path).images] == ["a/0.png"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "0 bytes"), (b"text", "not an image"), (picture(1, 64), "64x64 pixels"), (picture(1)[:60], "cut short")],
)
def test_a_bad_image_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    make(tmp_path, {"a": 1})
    (tmp_path / "a" / "z.png").write_bytes(content)
    source = FolderSource(tmp_path)
    with pytest.raises(UnreadableImage, match=f"a/z.png.*{reason}"):
        source.read(1)
    assert [key for key, _ in source.check()] == ["a/z.png"]


def test_a_vanished_image_is_named(tmp_path: Path) -> None:
    source = FolderSource(make(tmp_path, {"a": 2}))
    (tmp_path / "a" / "1.png").unlink()
    with pytest.raises(UnreadableImage, match=r"a/1\.png: cannot be read"):
        source.read(1)


def test_what_is_no_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no data at"):
        open_source(tmp_path / "nowhere")
    with pytest.raises(FacekdError, match="holds no identity folder"):
        open_source(tmp_path)
    (tmp_path / "loose.jpg").write_bytes(b"x")
    with pytest.raises(FacekdError, match=r"it holds images itself, such as loose\.jpg"):
        open_source(tmp_path)
    with pytest.raises(UsageError, match="is not a source"):
        open_source(tmp_path / "loose.jpg")
    for k in range(20):
        (tmp_path / "who").mkdir(exist_ok=True)
        (tmp_path / "who" / f"{k}.png").write_bytes(picture(1, 250))
    with pytest.raises(FacekdError, match="250x250 images, not 112x112: run `facekd data align`"):
        open_source(tmp_path)


def test_a_folder_without_permission_is_refused(
    tmp_path: Path, ordinary_user: Callable[[], AbstractContextManager[Path]]
) -> None:
    make(tmp_path, {"a": 1})
    assert len(open_source(tmp_path)) == 1
    with ordinary_user() as folder:
        make(folder, {"a": 1})
        (folder / "a").chmod(0)
        try:
            with pytest.raises(FacekdError, match="cannot read the folder"):
                open_source(folder)
        finally:
            (folder / "a").chmod(0o755)


def test_limits_keep_whole_identities_and_first_images(tmp_path: Path) -> None:
    make(tmp_path, {"a": 1, "b": 5, "c": 2, "d": 3})
    source = open_source(tmp_path, min_images=2, max_images=3, max_identities=2)
    assert [source.key(i) for i in range(len(source))] == ["b/0.png", "b/1.png", "b/2.png", "c/0.png", "c/1.png"]
    assert source.labels.tolist() == [0, 0, 0, 1, 1] and source.num_identities == 2
    assert source.read(3)[0, 0, 0] == 20
    with pytest.raises(UsageError, match="no image of"):
        open_source(tmp_path, min_images=100)
    with pytest.raises(UsageError, match="max_images must be at least 1, got 0"):
        open_source(tmp_path, max_images=0)


def test_limits_do_not_need_labels_in_order() -> None:
    class Shuffled:
        labels = np.array([2, 0, 1, 0, 2, 2, 1, 0])
        num_identities = 3
        name = "shuffled"

        def __len__(self) -> int:
            return 8

        def key(self, i: int) -> str:
            return str(i)

        def read(self, i: int) -> np.ndarray:
            return np.full((1, 1, 3), i, np.uint8)

        def fingerprint(self) -> str:
            return "0"

    subset = Subset.by_identity(Shuffled(), max_images=2)
    seen: dict[int, int] = {}
    expected = []
    for i, label in enumerate(Shuffled.labels):  # the definition, one by one
        seen[label] = seen.get(label, 0) + 1
        if seen[label] <= 2:
            expected.append(str(i))
    assert [subset.key(i) for i in range(len(subset))] == expected
