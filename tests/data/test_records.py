"""RecordIO: against files made by hand from the format's definition, and against the writer."""

import multiprocessing
import os
import pickle
import struct
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from facekd.common.errors import FacekdError, UsageError
from facekd.data.opening import open_source
from facekd.data.record_writer import RecordWriter
from facekd.data.source import UnreadableImage
from facekd.data.sources.records import RecordReader

MAGIC = b"\x0a\x23\xd7\xce"


def picture(seed: int, side: int = 112) -> np.ndarray:
    return cv2.resize(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8), (side, side))


def png(seed: int, side: int = 112) -> bytes:
    return cv2.imencode(".png", picture(seed, side)[..., ::-1])[1].tobytes()


def frame(payload: bytes, cflag: int = 0) -> bytes:
    return MAGIC + struct.pack("<I", cflag << 29 | len(payload)) + payload + b"\0" * (-len(payload) % 4)


def header(flag: int, label: float, key: int, *labels: float) -> bytes:
    return struct.pack("<IfQQ", flag, label, key, 0) + struct.pack(f"<{len(labels)}f", *labels)


def write(folder: Path, records: list[bytes], keys: list[int] | None = None) -> Path:
    """Frames as they are given, and their .idx."""
    offsets = np.cumsum([0, *map(len, records)])[:-1]
    (folder / "train.rec").write_bytes(b"".join(records))
    names = keys if keys is not None else range(len(records))
    (folder / "train.idx").write_text("".join(f"{k}\t{o}\n" for k, o in zip(names, offsets, strict=True)))
    return folder / "train.rec"


def insightface(folder: Path, labels: tuple[int, ...] = (4, 4, 9, 9, 9)) -> Path:
    """Five images of the identities 4 and 9, by hand."""
    n = len(labels)
    images = [frame(header(0, label, key, *()) + png(key)) for key, label in enumerate(labels, 1)]
    people = [frame(header(2, 0, n + 1, 1, 3)), frame(header(2, 0, n + 2, 3, 6))]
    return write(folder, [frame(header(2, 0, 0, n + 1, n + 3)), *images, *people])


def test_identity_records_are_not_images(tmp_path: Path) -> None:
    reader = RecordReader(insightface(tmp_path))
    assert len(reader) == 5
    assert reader.labels.tolist() == [0, 0, 1, 1, 1]
    assert reader.label_values.tolist() == [4, 9]
    assert reader.index_rebuilt is None
    assert [reader.key(i) for i in range(5)] == ["1", "2", "3", "4", "5"]
    for i in range(5):
        np.testing.assert_array_equal(reader.read(i), picture(i + 1))


def test_plain_im2rec_every_key_is_an_image_and_the_first_of_a_label_array_counts(tmp_path: Path) -> None:
    records = [
        frame(header(0, 7, 0) + png(0)),
        frame(header(3, 0, 1, 2, 5, 6) + png(1)),
        frame(header(1, 99, 2, 7) + png(2)),
    ]
    reader = RecordReader(write(tmp_path, records))
    assert reader.label_values[reader.labels].tolist() == [7, 2, 7]
    np.testing.assert_array_equal(reader.read(1), picture(1))


def test_split_records_get_their_magic_back(tmp_path: Path) -> None:
    image = png(3)
    # PNG readers ignore what follows the end: put the magic there, where the format must split.
    body = header(0, 1, 0) + image
    body += b"\0" * (-len(body) % 4)
    tail = b"abcd" + MAGIC + b"wxyz12"
    split = frame(body + b"abcd", 1) + frame(b"wxyz12", 3)
    twice = frame(body, 1) + frame(b"midd", 2) + frame(b"end", 3)
    reader = RecordReader(write(tmp_path, [split, frame(header(0, 2, 1) + png(4)), twice]), size=None)
    assert reader.index_rebuilt is None
    assert reader.encoded(0) == (body + tail)[24:]
    assert reader.encoded(2) == (body + MAGIC + b"midd" + MAGIC + b"end")[24:]
    np.testing.assert_array_equal(reader.read(0), picture(3))


def test_a_record_split_inside_its_header_keeps_its_label(tmp_path: Path) -> None:
    image = png(5)
    magic_id = int.from_bytes(MAGIC, "little")
    payload = struct.pack("<IfQQ", 0, 3.0, magic_id, 0) + image  # the magic stands at byte 8 of the header
    records = [frame(payload[:8], 1) + frame(payload[12:], 3), frame(header(0, 8, 1) + png(6))]
    reader = RecordReader(write(tmp_path, records))
    assert reader.label_values[reader.labels].tolist() == [3, 8]
    np.testing.assert_array_equal(reader.read(0), picture(5))


@pytest.mark.parametrize(
    "payload_tail", [MAGIC, MAGIC * 3, b"x" + MAGIC, b"wxyz" + MAGIC + b"z", MAGIC + b"ab" + MAGIC]
)
def test_the_writer_splits_as_the_reader_joins(tmp_path: Path, payload_tail: bytes) -> None:
    image = png(1) + payload_tail
    image_aligned = png(1) + b"\0" * (-(24 + len(png(1))) % 4) + payload_tail
    with RecordWriter(tmp_path / "train.rec") as writer:
        writer.write(0, image)
        writer.write(0, image_aligned)
    reader = RecordReader(tmp_path)
    assert [reader.encoded(i) for i in range(2)] == [image, image_aligned]
    data = (tmp_path / "train.rec").read_bytes()
    (tmp_path / "train.idx").unlink()
    rebuilt = RecordReader(tmp_path)
    assert [rebuilt.encoded(i) for i in range(2)] == [image, image_aligned]
    # dmlc's rule: the magic never stands at a multiple of four but at the start of a frame
    starts = {at for at in range(0, len(data), 4) if data[at : at + 4] == MAGIC}
    at, frames = 0, set()
    while at < len(data):
        frames.add(at)
        at += 8 + ((struct.unpack_from("<I", data, at + 4)[0] & (1 << 29) - 1) + 3) // 4 * 4
    assert starts == frames


def test_the_writer_makes_the_layout_of_the_published_sets(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "train.rec") as writer:
        for key, label in enumerate((0, 0, 1, 2, 2), 1):
            assert writer.write(label, png(key)) == key
    assert (tmp_path / "property").read_text() == "3,112,112\n"
    data = (tmp_path / "train.rec").read_bytes()
    offsets = dict(tuple(map(int, line.split("\t"))) for line in (tmp_path / "train.idx").read_text().splitlines())
    assert sorted(offsets) == list(range(9))

    def labels(key: int) -> tuple[float, ...]:
        assert data[offsets[key] : offsets[key] + 4] == MAGIC
        assert struct.unpack_from("<I", data, offsets[key] + 8)[0] == 2
        return struct.unpack_from("<2f", data, offsets[key] + 32)

    assert labels(0) == (6, 9)
    assert [labels(key) for key in (6, 7, 8)] == [(1, 3), (3, 4), (4, 6)]


def test_the_shared_set_is_read_whole(shared: Path) -> None:
    reader = RecordReader(shared / "data/celeba_train")
    assert (len(reader), reader.num_identities, reader.index_rebuilt, reader.broken) == (27851, 6272, None, [])
    counts = np.bincount(reader.labels)
    assert ((counts >= 2).sum(), (counts >= 10).sum()) == (3783, 799)
    assert reader.read(27850).shape == (112, 112, 3)
    scanned = RecordReader(shared / "data/celeba_train", index_path="/nowhere.idx")
    assert scanned.index_rebuilt is not None
    assert scanned.fingerprint() == reader.fingerprint()


def _break_index(path: Path, kind: str) -> None:
    lines = path.read_text().splitlines()
    if kind == "missing":
        path.unlink()
    elif kind == "empty":
        path.write_text("")
    elif kind == "garbage":
        path.write_bytes(b"\xff\x00\x12 hello")
    elif kind == "cut short":
        path.write_text("\n".join(lines[:4]) + "\n")
    elif kind == "cut inside a number":
        path.write_text("\n".join(lines)[:-2])
    elif kind == "shifted":
        path.write_text("".join(f"{k}\t{int(o) + 4}\n" for k, o in (line.split("\t") for line in lines)))
    elif kind == "one wrong offset":
        lines[2] = f"2\t{int(lines[2].split()[1]) + 8}"
        path.write_text("\n".join(lines) + "\n")
    elif kind == "a record left out":
        path.write_text("\n".join(lines[:3] + lines[4:]) + "\n")
    elif kind == "beyond the end":
        path.write_text("\n".join([*lines, "8\t99999996"]) + "\n")
    elif kind == "a key twice":
        path.write_text("\n".join([*lines[:-1], f"0\t{lines[-1].split()[1]}"]) + "\n")


@pytest.mark.parametrize(
    "kind",
    ["missing", "empty", "garbage", "cut short", "cut inside a number", "shifted", "one wrong offset",
     "a record left out", "beyond the end", "a key twice"],
)  # fmt: skip
def test_a_bad_index_is_rebuilt_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    path = insightface(tmp_path)
    whole = RecordReader(path)
    _break_index(tmp_path / "train.idx", kind)
    caplog.clear()
    reader = RecordReader(path)
    assert reader.index_rebuilt is not None and "train.idx" in reader.index_rebuilt
    assert any("rebuilt by scanning" in record.getMessage() for record in caplog.records)
    assert reader.labels.tolist() == whole.labels.tolist()
    assert [reader.key(i) for i in range(5)] == [whole.key(i) for i in range(5)]
    assert all((reader.read(i) == whole.read(i)).all() for i in range(5))
    assert reader.broken == []


@pytest.mark.parametrize("with_index", [True, False])
def test_damaged_records_are_named_and_the_others_kept(tmp_path: Path, with_index: bool) -> None:
    path = insightface(tmp_path)
    offsets = [int(line.split()[1]) for line in (tmp_path / "train.idx").read_text().splitlines()]
    data = bytearray(path.read_bytes())
    data[offsets[2] : offsets[2] + 4] = b"\0\0\0\0"  # key 2: no magic
    data[offsets[4] + 200 : offsets[4] + 240] = b"\0" * 40  # key 4: frame sound, image damaged
    path.write_bytes(data)
    if not with_index:
        (tmp_path / "train.idx").unlink()
    reader = RecordReader(path)
    found = dict(reader.check())
    assert set(found) == {"2", "4"}
    assert "decoded" in found["4"]
    readable = [reader.key(i) for i in range(len(reader)) if reader.key(i) not in found]
    assert readable == ["1", "3", "5"]
    np.testing.assert_array_equal(reader.read([reader.key(i) for i in range(len(reader))].index("5")), picture(5))


def test_a_truncated_file_names_what_is_lost(tmp_path: Path) -> None:
    path = insightface(tmp_path)
    offsets = [int(line.split()[1]) for line in (tmp_path / "train.idx").read_text().splitlines()]
    os.truncate(path, offsets[4] + 100)
    reader = RecordReader(path)
    assert [reader.key(i) for i in range(len(reader))] == ["1", "2", "3"]
    assert set(dict(reader.broken)) == {"4", "5"}
    assert "truncated" in dict(reader.broken)["4"]
    (tmp_path / "train.idx").unlink()
    scanned = RecordReader(path)
    assert set(dict(scanned.broken)) == {"4", "5"}


def test_empty_and_short_records_are_named(tmp_path: Path) -> None:
    records = [
        frame(header(0, 1, 0) + png(0)),
        frame(b""),
        frame(b"short"),
        frame(header(0, 1, 3)),
        frame(header(0, float("nan"), 4)),
    ]
    found = dict(RecordReader(write(tmp_path, records)).check())
    assert set(found) == {"1", "2", "3", "4"}
    assert found["1"] == "0 bytes" and "too short" in found["2"] and found["3"] == "0 bytes"


def test_reading_a_damaged_image_raises_with_key_and_reason(tmp_path: Path) -> None:
    reader = RecordReader(write(tmp_path, [frame(header(0, 1, 0) + png(0)), frame(header(0, 1, 1) + b"no image")]))
    with pytest.raises(UnreadableImage) as caught:
        reader.read(1)
    assert caught.value.key == "1" and "not an image" in caught.value.reason
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.key, again.reason, str(again)) == ("1", caught.value.reason, str(caught.value))


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "0 bytes"), (b"\0" * 64, "no record"), (frame(b"nothing"), "no image")]
)
def test_files_without_images_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "train.rec").write_bytes(content)
    with pytest.raises(FacekdError, match=message):
        open_source(tmp_path)


def test_labels_that_are_no_identities_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FacekdError, match="not a whole number"):
        RecordReader(write(tmp_path, [frame(header(0, 0.5, 0) + png(0))]))


def test_unaligned_images_are_refused_when_opened(tmp_path: Path) -> None:
    path = write(tmp_path, [frame(header(0, 0, 0) + png(0, side=96))])
    with pytest.raises(FacekdError, match="96x96 images, not 112x112: run `facekd data align`"):
        RecordReader(path)
    assert RecordReader(path, size=(96, 96)).read(0).shape == (96, 96, 3)


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere"):
        open_source(tmp_path / "nowhere.rec")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_readers_work_in_forked_and_spawned_processes(tmp_path: Path, method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    reader = RecordReader(insightface(tmp_path))
    images = [reader.read(i) for i in range(5)]  # the map is open before the fork
    # The reader's own method crosses over: a spawned process can import the installed package, not this file.
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
        for image, theirs in zip(images, pool.map(reader.read, range(5)), strict=True):
            np.testing.assert_array_equal(theirs, image)
    assert pickle.loads(pickle.dumps(reader)).labels.tolist() == reader.labels.tolist()


def test_nothing_appears_when_writing_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), RecordWriter(tmp_path / "train.rec") as writer:
        writer.write(0, png(0))
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FacekdError, match="no image was given"), RecordWriter(tmp_path / "train.rec"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_writer_refuses_what_the_layout_cannot_hold(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "train.rec") as writer:
        writer.write(3, png(0))
        writer.write(5, png(1))
        with pytest.raises(UsageError, match="not together"):
            writer.write(3, png(2))
        with pytest.raises(UsageError, match="whole numbers"):
            writer.write((1 << 24) + 1, png(2))
    with pytest.raises(UsageError, match="--overwrite"):
        RecordWriter(tmp_path / "train.rec")
    with pytest.raises(UsageError, match=r"\.rec"):
        RecordWriter(tmp_path / "train.bin")


def test_the_image_range_beyond_float32_is_told_by_content(tmp_path: Path) -> None:
    """id0 above 2^24 is rounded in the file; then identity records are those without an image."""
    many = float((1 << 24) + 2)
    records = [frame(header(2, 0, 0, many, many + 2)), frame(header(0, 1, 1) + png(1)), frame(header(2, 0, 2, 1, 2))]
    reader = RecordReader(write(tmp_path, records))
    assert len(reader) == 1 and reader.key(0) == "1"


@pytest.mark.parametrize("end", [float("nan"), float("inf"), -float("inf"), -3.0, 0.0, 1e7])
def test_a_damaged_image_range_is_named_and_told_by_content(tmp_path: Path, end: float) -> None:
    records = [frame(header(2, 0, 0, end, end)), frame(header(0, 1, 1) + png(1)), frame(header(2, 0, 2, 1, 2))]
    reader = RecordReader(write(tmp_path, records))
    assert [reader.key(i) for i in range(len(reader))] == ["1"]
    ((key, reason),) = reader.broken
    assert key == "0" and "its range of images ends before" in reason


def test_opening_does_not_load_the_file(tmp_path: Path) -> None:
    """What a pickled reader carries is its index, not its records."""
    blob = np.random.default_rng(0).bytes(200_000)
    with RecordWriter(tmp_path / "train.rec") as writer:
        for label in range(20):
            writer.write(label, png(label) + blob)
    reader = RecordReader(tmp_path)
    reader.read(3)
    assert (tmp_path / "train.rec").stat().st_size > 4_000_000
    assert len(pickle.dumps(reader)) < 20_000
