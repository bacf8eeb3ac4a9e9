"""What users bring: photographs under any name, pipes and links, stand-ins for files, lists saved by other programs."""

import io
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from facekd.common.errors import FacekdError, UsageError
from facekd.common.file_kind import check_not_a_stand_in, kind_of
from facekd.data.decoding import decode_image, encode_png
from facekd.data.detection import YuNet
from facekd.data.image_files import list_images, read_image_file
from facekd.data.opening import load_verification_set, open_source
from facekd.data.source import UnreadableImage
from facekd.models.checkpoint import read_checkpoint

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:50ef07\nsize 123\n"
PAGE = b"<!DOCTYPE html>\n<html><head><title>Quota exceeded</title></head></html>"


def face(value: int = 90, size: tuple[int, int] = (112, 112)) -> np.ndarray:
    image = np.full((*size, 3), value, np.uint8)
    image[20:40, 30:50] = (value + 60, value // 2, 10)
    return image


def encoded(suffix: str, image: np.ndarray) -> bytes:
    done, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    assert done
    return data.tobytes()


def heic(image: np.ndarray, form: str = "HEIF") -> bytes:
    from PIL import Image
    from pillow_heif import register_heif_opener

    register_heif_opener()
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, form, quality=95)
    return stream.getvalue()


def test_photographs_under_any_name_are_seen_and_the_rest_is_named(tmp_path: Path) -> None:
    """Seen: .jfif, .HEIC and .avif were invisible; a whole person went, "unreadable 0"."""
    files = {
        "ann/a.jfif": encoded(".jpg", face()), "ann/b.HEIC": heic(face(91)), "ann/c.avif": heic(face(92), "AVIF"),
        "ben/no suffix": encoded(".png", face(93)), "ben/d.bmp.old": encoded(".bmp", face(94)),
        "ben/clip.gif": b"GIF89a" + bytes(40), "ben/notes.txt": b"hello", "ben/Thumbs.db": b"x", "ben/._d.jpg": b"x",
    }  # fmt: skip
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    os.mkfifo(tmp_path / "ben" / "pipe.jpg")
    (tmp_path / "ben" / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "ben" / "loop.jpg").symlink_to(tmp_path / "ben" / "loop.jpg")
    found = list_images(tmp_path)
    assert [path.as_posix() for path in found.images] == [
        "ann/a.jfif", "ann/b.HEIC", "ann/c.avif", "ben/clip.gif", "ben/d.bmp.old", "ben/no suffix",
    ]  # fmt: skip
    assert {name: why.split(" (")[0] for name, why in found.passed_over} == {
        "ben/Thumbs.db": "a file of the system", "ben/notes.txt": "not an image", "ben/loop.jpg": "cannot be read",
        "ben/pipe.jpg": "a named pipe, not a file", "ben/zero.jpg": "a device, not a file",
    }  # fmt: skip
    source = open_source(tmp_path)
    assert source.num_identities == 2
    read = {}
    for i in range(len(source)):
        try:
            read[source.key(i)] = source.read(i)
        except UnreadableImage as error:
            read[error.key] = error.reason
    assert "is a GIF" in str(read.pop("ben/clip.gif"))
    for number, key in enumerate(["ann/a.jfif", "ann/b.HEIC", "ann/c.avif", "ben/no suffix", "ben/d.bmp.old"]):
        assert np.abs(read[key].astype(int) - face(90 + number)).mean() < 6, key  # lossy colours


def test_a_heic_without_its_reader_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    data = heic(face())
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(UnreadableImage, match=r"pip install 'facekd\[heif\]'"):
        decode_image(data, "a.heic")


@pytest.mark.parametrize("cut", [24, 60, 400])
def test_a_damaged_heic_is_one_line(cut: int) -> None:
    with pytest.raises(UnreadableImage) as error:
        decode_image(heic(face())[:cut], "a.heic")
    assert "\n" not in str(error.value)


def test_no_pipe_and_no_device_is_read(tmp_path: Path) -> None:
    """Seen: embed FOLDER hung on a named pipe and filled the memory from a link to /dev/zero."""
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "large.jpg").touch()
    os.truncate(tmp_path / "large.jpg", 1 << 40)  # a hole: it takes no room
    for name, why in (("pipe.jpg", "named pipe"), ("zero.jpg", "device"), ("large.jpg", "larger than any")):
        with pytest.raises(UnreadableImage, match=why):
            read_image_file(tmp_path / name)


def test_embed_names_what_it_passes_over(tmp_path: Path, shared: Path) -> None:
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    (photographs / "a.jfif").write_bytes(encoded(".jpg", face()))
    (photographs / "list.txt").write_text("x")
    os.mkfifo(photographs / "pipe.png")
    words = ["embed", str(shared / "weights/edgeface_xs.onnx"), str(photographs), "--out", str(tmp_path / "e.npz")]
    ran = subprocess.run([sys.executable, "-m", "facekd", *words], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "1 embeddings" in ran.stdout
    assert "not an image" in ran.stdout
    assert "a named pipe" in ran.stdout


@pytest.mark.parametrize(
    ("data", "says"),
    [(POINTER, "Git LFS pointer.*git lfs pull"), (PAGE, "a web page"), (b"", "is empty|holds 0 bytes")],
)
@pytest.mark.parametrize("what", ["detector", "set", "list", "weights", "records"])
def test_a_stand_in_for_a_file_is_called_what_it_is(tmp_path: Path, what: str, data: bytes, says: str) -> None:
    names = {"detector": "y.onnx", "set": "s.bin", "list": "s.txt", "weights": "w.pt", "records": "train.rec"}
    path = tmp_path / names[what]
    path.write_bytes(data)
    openers: dict[str, Any] = {
        "detector": YuNet, "set": load_verification_set, "weights": read_checkpoint, "records": open_source,
        "list": lambda file: load_verification_set(file, tmp_path),
    }  # fmt: skip
    with pytest.raises(FacekdError, match=says) as error:
        openers[what](path)
    assert "\n" not in str(error.value)


def test_an_older_yunet_is_named(tmp_path: Path) -> None:
    (tmp_path / "y.onnx").write_bytes(b"\x08\x07 input loc conf iou")
    with pytest.raises(UsageError, match="of 2022 or earlier"):
        YuNet(tmp_path / "y.onnx")


def test_a_sound_file_is_no_stand_in(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode_png(face()))
    check_not_a_stand_in(tmp_path / "a.png", "an image")
    assert kind_of(b"random bytes") is None


@pytest.mark.parametrize(
    ("truths", "expected"),
    [([1, -1], [True, False]), (np.array([1.0, 0.0]), [True, False]), (np.array([-1, 1]), [False, True])],
)
def test_truths_as_people_write_them(tmp_path: Path, truths: Any, expected: list[bool]) -> None:
    """Seen: -1 and 1 counted every pair as genuine."""
    (tmp_path / "s.bin").write_bytes(pickle.dumps(([encode_png(face(k)) for k in range(4)], truths)))
    assert load_verification_set(tmp_path / "s.bin").issame.tolist() == expected


@pytest.mark.parametrize("truths", [[1, 2], [0.5, 1], [-1, 0, 1, 1]])
def test_truths_that_are_none_are_refused(tmp_path: Path, truths: list[float]) -> None:
    images = [encode_png(face())] * (2 * len(truths))
    (tmp_path / "s.bin").write_bytes(pickle.dumps((images, truths)))
    with pytest.raises(FacekdError, match="valid are 0 and 1, or -1 and 1"):
        load_verification_set(tmp_path / "s.bin")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_encoded_bytes_are_bytes_in_any_shape(tmp_path: Path, protocol: int) -> None:
    data = encode_png(face())
    column = np.frombuffer(data, np.uint8)[:, None]  # what cv2.imencode returns
    images = [data, column, column.T.copy(), bytearray(data)]
    (tmp_path / "s.bin").write_bytes(pickle.dumps((images, [True, False]), protocol=protocol))
    pairs = load_verification_set(tmp_path / "s.bin")
    for i in range(4):
        np.testing.assert_array_equal(pairs.image(i), face())


def test_sets_of_other_published_sizes_are_fitted_and_it_is_said(tmp_path: Path) -> None:
    wide = face(size=(160, 160))
    narrow = face()[:, 8:104]
    for name, image in (("wide", wide), ("narrow", narrow), ("odd", face(size=(100, 90)))):
        (tmp_path / f"{name}.bin").write_bytes(pickle.dumps(([encode_png(image)] * 4, [1, 0])))
    pairs = load_verification_set(tmp_path / "wide.bin")
    expected = cv2.resize(wide, (112, 112), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(pairs.image(0), expected)
    assert [pairs.image(i).shape for i in (1, 1, 2)] == [(112, 112, 3)] * 3
    assert pairs.notes == ["3 images of 160x160 resized to 112x112"]
    pairs = load_verification_set(tmp_path / "narrow.bin")
    np.testing.assert_array_equal(pairs.image(0)[:, 8:104], narrow)
    assert not pairs.image(0)[:, [0, 7, 104, 111]].any()
    with pytest.raises(UnreadableImage, match="90x100 pixels, not 112x112"):
        load_verification_set(tmp_path / "odd.bin").image(0)


def test_a_label_below_zero_is_no_identity(tmp_path: Path) -> None:
    from facekd.data.record_writer import RecordWriter

    with RecordWriter(tmp_path / "train.rec") as writer:
        for label in (0, 1, 2):
            writer.write(label, encode_png(face(label)))
    data = bytearray((tmp_path / "train.rec").read_bytes())
    place = data.index(np.float32(2).tobytes(), data.index(encode_png(face(1))))
    data[place : place + 4] = np.float32(-1).tobytes()
    (tmp_path / "train.rec").write_bytes(data)
    source = open_source(tmp_path)
    assert source.num_identities == 2
    assert any("its label is -1: no identity" in reason for _, reason in getattr(source, "broken", []))


LFW = "2\t1\nAnn\t1\t2\nAnn\t1\tBen\t1\nBen\t1\t2\nBen\t2\tAnn\t2\n"
LISTS: dict[str, tuple[str, bytes, list[int] | None]] = {
    "as published": ("pairs.txt", LFW.encode(), [2, 2]),
    "line ends of Windows": ("pairs.txt", LFW.replace("\n", "\r\n").encode(), [2, 2]),
    "byte-order mark": ("pairs.txt", LFW.encode("utf-8-sig"), [2, 2]),
    "UTF-16": ("pairs.txt", LFW.encode("utf-16"), [2, 2]),
    "upper-case suffix": ("PAIRS.TXT", LFW.encode(), [2, 2]),
    "blanks": ("pairs.lst", LFW.replace("\t", " ").encode(), [2, 2]),
    "Kaggle's": ("pairs.csv", b"name,imagenum1,imagenum2,\nAnn,1,2,\nAnn,1,Ben,1\nBen,1,2,\nBen,2,Ann,2\n", [2, 2]),
    "paths, truth last": (
        "p.csv",
        b"img1,img2,issame\nAnn/Ann_0001.jpg,Ann/Ann_0002.jpg,1\nAnn/Ann_0001.jpg,Ben/Ben_0001.jpg,0\n"
        b"Ben/Ben_0001.jpg,Ben/Ben_0002.jpg,1\nBen/Ben_0002.jpg,Ann/Ann_0002.jpg,0\n",
        None,
    ),
    "truth first": (
        "p",
        b"1 Ann/Ann_0001.jpg Ann/Ann_0002.jpg\n0 Ann/Ann_0001.jpg Ben/Ben_0001.jpg\n"
        b"1 Ben/Ben_0001.jpg Ben/Ben_0002.jpg\n0 Ben/Ben_0002.jpg Ann/Ann_0002.jpg\n",
        None,
    ),
    "truths of -1": (
        "p.tsv",
        b"Ann/Ann_0001.jpg\tAnn/Ann_0002.jpg\t1\nAnn/Ann_0001.jpg\tBen/Ben_0001.jpg\t-1\n"
        b"Ben/Ben_0001.jpg\tBen/Ben_0002.jpg\t1\nBen/Ben_0002.jpg\tAnn/Ann_0002.jpg\t-1\n",
        None,
    ),
}


@pytest.mark.parametrize("layout", LISTS)
def test_one_list_however_it_was_saved(tmp_path: Path, layout: str) -> None:
    values = {"Ann_0001": 10, "Ann_0002": 20, "Ben_0001": 30, "Ben_0002": 40}
    for name, value in values.items():
        folder = tmp_path / "images" / name[:3]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.jpg").write_bytes(encode_png(np.full((112, 112, 3), value, np.uint8)))
    name, content, folds = LISTS[layout]
    (tmp_path / name).write_bytes(content)
    pairs = load_verification_set(tmp_path / name, tmp_path / "images")
    assert pairs.issame.tolist() == [True, False, True, False]
    assert [int(pairs.image(i)[0, 0, 0]) for i in range(8)] == [10, 20, 10, 30, 30, 40, 40, 20]
    assert pairs.fold_sizes == folds


def test_weights_with_nan_are_refused(tmp_path: Path) -> None:
    import torch

    torch.save({"a": torch.ones(2), "blocks.0.norm1.weight": torch.tensor([1.0, float("nan")])}, tmp_path / "w.pt")
    with pytest.raises(FacekdError, match=r"blocks\.0\.norm1\.weight holds NaN or infinity"):
        read_checkpoint(tmp_path / "w.pt")


def test_torchs_own_text_reaches_nobody(tmp_path: Path) -> None:
    import torch

    torch.save({"a": torch.ones(2), "epoch": np.float64(3)}, tmp_path / "scalar.pt")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "whole.pt")
    for name in ("scalar", "whole"):
        with pytest.raises(FacekdError) as error:
            read_checkpoint(tmp_path / f"{name}.pt")
        text = str(error.value)
        assert "torch.save(model.state_dict(), ...)" in text
        assert "\x1b" not in text
        assert "weights_only" not in text
