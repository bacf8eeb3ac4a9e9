"""Formats that other people's faces come in: each is written here by its own library, and read back image by image."""

import csv
import hashlib
import io
import json
import pickle
import tarfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import cv2
import numpy as np
import pyarrow
import pytest
import typer
from pyarrow import parquet
from typer.testing import CliRunner

from facekd.common.errors import FacekdError, UsageError
from facekd.data.opening import open_source
from facekd.data.packing import pack_records
from facekd.data.source import Source, UnreadableImage

PEOPLE, IMAGES = 3, 4


def pictures() -> list[list[np.ndarray]]:
    random = np.random.default_rng(0)
    return [[random.integers(0, 256, (112, 112, 3), np.uint8) for _ in range(IMAGES)] for _ in range(PEOPLE)]


def png(image: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1])


FACES = pictures()
NAMES = ["anna", "bela", "carl"]
ROWS = [(person, image) for image in range(IMAGES) for person in range(PEOPLE)]
"""Not sorted by person, as in a shuffled set."""


def assert_same_faces(source: Source) -> None:
    assert (len(source), source.num_identities) == (PEOPLE * IMAGES, PEOPLE)
    for i, (person, image) in enumerate(ROWS):
        assert source.labels[i] == person
        np.testing.assert_array_equal(source.read(i), FACES[person][image])
    assert len({source.key(i) for i in range(len(source))}) == len(source)
    again = pickle.loads(pickle.dumps(source))  # workers get a copy
    np.testing.assert_array_equal(again.read(5), source.read(5))


def write_parquet(
    path: Path, rows: list[dict[str, Any]], *, features: dict[str, Any] | None = None, row_group: int = 5
) -> None:
    table = pyarrow.Table.from_pylist(rows)
    if features is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    parquet.write_table(table, path, row_group_size=row_group)


def parquet_rows(label: Any = lambda person: person) -> list[dict[str, Any]]:
    return [
        {"image": {"bytes": png(FACES[person][image]), "path": f"{image}.png"}, "label": label(person)}
        for person, image in ROWS
    ]


def test_parquet_of_the_hub(tmp_path: Path) -> None:
    """Image structs, numbers with names, several shards in data/, the split train alone."""
    (tmp_path / "set/data").mkdir(parents=True)
    features = {"label": {"names": NAMES, "_type": "ClassLabel"}}
    rows = parquet_rows()
    write_parquet(tmp_path / "set/data/train-00000-of-00002.parquet", rows[:7], features=features)
    write_parquet(tmp_path / "set/data/train-00001-of-00002.parquet", rows[7:], features=features)
    write_parquet(tmp_path / "set/data/test-00000-of-00001.parquet", rows[:2], features=features)
    source = open_source(tmp_path / "set")
    assert_same_faces(source)
    assert source.identities == NAMES  # type: ignore[attr-defined]


def test_parquet_with_names_for_labels_and_other_columns(tmp_path: Path) -> None:
    rows = [{"photo": row["image"]["bytes"], "who": NAMES[row["label"]]} for row in parquet_rows()]
    write_parquet(tmp_path / "faces.parquet", rows)
    with pytest.raises(FacekdError, match=r"no image column that is known by its name: it has photo, who; choose with"):
        open_source(tmp_path / "faces.parquet")
    source = open_source(f"parquet:{tmp_path / 'faces.parquet'},image=photo,label=who")
    assert_same_faces(source)
    assert source.identities == NAMES  # type: ignore[attr-defined]


def test_parquet_labels_that_are_none(tmp_path: Path) -> None:
    """Missing and negative ones are counted and named; gaps are closed."""
    labels: list[int | None] = [7, 7, None, -1, 40, 40]
    rows = [{"image": {"bytes": png(FACES[0][0]), "path": None}, "label": label} for label in labels]
    rows.append({"image": {"bytes": None, "path": "elsewhere.jpg"}, "label": 7})
    write_parquet(tmp_path / "odd.parquet", rows)
    source = open_source(tmp_path / "odd.parquet")
    assert source.labels.tolist() == [0, 0, 1, 1, 0]
    assert [reason for _, reason in source.broken] == [  # type: ignore[attr-defined]
        "it has no label", "its label is -1: no identity"
    ]  # fmt: skip
    with pytest.raises(UnreadableImage, match=r"only a path is stored: elsewhere\.jpg"):
        source.read(4)


def write_tar(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def tar_members(rows: list[tuple[int, int]]) -> dict[str, bytes]:
    files = {}
    for person, image in rows:
        files[f"{image}/{person:03d}.png"] = png(FACES[person][image])
        files[f"{image}/{person:03d}.cls"] = str(person).encode()
    return files


def test_webdataset_shards(tmp_path: Path) -> None:
    write_tar(tmp_path / "faces-000.tar", tar_members(ROWS[:5]))
    write_tar(tmp_path / "faces-001.tar", tar_members(ROWS[5:]))
    assert_same_faces(open_source(tmp_path))
    assert_same_faces(open_source(f"webdataset:{tmp_path}/faces-{{000..001}}.tar"))
    assert_same_faces(open_source(f"webdataset:file://{tmp_path}/faces-{{000..001}}.tar"))  # by fsspec and its cache


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEKD_RECORD_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def server() -> Iterator[tuple[str, dict[str, bytes], list[str]]]:
    """A web server that answers byte ranges: its address, its files, and what was asked of it."""
    files: dict[str, bytes] = {}
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.path} {self.headers.get('Range')}")
            name = self.path.lstrip("/")
            if name not in files:
                self.send_error(404 if "broken" not in name else 503)
                return
            first, last = (int(part) for part in self.headers["Range"].removeprefix("bytes=").split("-"))
            data = files[name] if "whole" in name else files[name][first : last + 1]
            self.send_response(200 if "whole" in name else 206)
            self.send_header("Content-Range", f"bytes {first}-{first + len(data) - 1}/{len(files[name])}")
            self.send_header("Content-Length", str(len(data)))
            self.send_header("ETag", hashlib.sha256(files[name]).hexdigest())
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        Thread(target=made.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{made.server_address[1]}", files, asked
        made.shutdown()


def test_webdataset_by_url(tmp_path: Path, server: tuple[str, dict[str, bytes], list[str]]) -> None:
    """Opened twice: the same images in the same order, which is what an exact resume needs, and no byte read twice."""
    address, files, asked = server
    for number, rows in enumerate((ROWS[:5], ROWS[5:])):
        write_tar(tmp_path / "made.tar", tar_members(rows))
        files[f"faces-{number:03d}.tar"] = (tmp_path / "made.tar").read_bytes()
    place = f"webdataset:{address}/faces-{{000..001}}.tar"
    first = open_source(place)
    assert_same_faces(first)
    ranges = [line for line in asked if "bytes=0-0" not in line]
    assert len(ranges) == len(set(ranges)) == sum(-(-len(data) // 2**20) for data in files.values())
    asked.clear()
    again = open_source(place)
    assert_same_faces(again)
    assert again.fingerprint() == first.fingerprint() and [again.key(i) for i in range(12)] == [
        first.key(i) for i in range(12)
    ]
    assert all("bytes=0-0" in line for line in asked)  # whether it is the same file; its bytes come from the cache
    write_tar(tmp_path / "made.tar", tar_members(ROWS[:4]))
    files["faces-000.tar"] = (tmp_path / "made.tar").read_bytes()  # replaced: the run that resumes is told
    assert open_source(place).fingerprint() != first.fingerprint()


def test_a_web_server_that_does_not_help_is_one_line(server: tuple[str, dict[str, bytes], list[str]]) -> None:
    address, files, _ = server
    files["whole.tar"] = bytes(10_240)
    cases = {
        "none.tar": f"no file at {address}/none.tar: give an existing file",
        "broken.tar": f"{address}/broken.tar cannot be read: the server answers 503 Service Unavailable",
        "whole.tar": f"{address}/whole.tar cannot be read: the server does not answer byte ranges: download the file",
    }
    for name, message in cases.items():
        with pytest.raises(FacekdError) as refused:
            open_source(f"webdataset:{address}/{name}")
        assert str(refused.value) == message
    with pytest.raises(
        FacekdError, match=r"http://127\.0\.0\.1:9/x\.tar cannot be read: the server does not answer \("
    ) as refused:
        open_source("webdataset:http://127.0.0.1:9/x.tar")
    assert "\n" not in str(refused.value)


def test_webdataset_labels_in_json_and_by_folder(tmp_path: Path) -> None:
    named = {}
    for number, (person, image) in enumerate(ROWS):
        named[f"{number:05d}.jpeg.png"] = b"not this one"  # the extension begins at the first dot: not an image
        named[f"{number:05d}.png"] = png(FACES[person][image])
        named[f"{number:05d}.json"] = json.dumps({"identity": NAMES[person], "age": 3}).encode()
    write_tar(tmp_path / "named.tar", named)
    source = open_source(tmp_path / "named.tar")
    assert_same_faces(source)
    assert source.identities == NAMES  # type: ignore[attr-defined]
    write_tar(
        tmp_path / "folders.tar",
        {f"set/{NAMES[person]}/{image}.png": png(FACES[person][image]) for person, image in ROWS},
    )
    assert_same_faces(open_source(tmp_path / "folders.tar"))


def test_a_hostile_or_damaged_tar(tmp_path: Path) -> None:
    """A name that points outside is left out and named, and nothing is written anywhere."""
    files = {**tar_members(ROWS), "../outside.png": png(FACES[0][0]), "../outside.cls": b"0", "/etc/x.cls": b"1"}
    files["9/lonely.cls"] = b"1"
    files["9/negative.png"], files["9/negative.cls"] = png(FACES[0][0]), b"-1"
    write_tar(tmp_path / "a.tar", files)
    source = open_source(tmp_path / "a.tar")
    assert_same_faces(source)
    assert dict(source.broken) == {  # type: ignore[attr-defined]
        "a.tar: ../outside.png": "its name points outside the tar",
        "a.tar: ../outside.cls": "its name points outside the tar",
        "a.tar: /etc/x.cls": "its name points outside the tar",
        "a.tar: 9/lonely": "no image",
        "a.tar: 9/negative": "its label is -1: no identity",
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar"]
    whole = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FacekdError, match=r"cut\.tar (cannot be read as a tar: unexpected end of data|ends inside)"):
        open_source(tmp_path / "cut.tar")
    import gzip

    (tmp_path / "packed.tar").write_bytes(gzip.compress(whole))
    with pytest.raises(FacekdError, match=r"packed\.tar cannot be read as a tar: it is compressed: unpack it"):
        open_source(tmp_path / "packed.tar")
    with pytest.raises(UsageError, match=r"no tar at .*faces-1\.tar \(1 of 3\)"):
        for number in (0, 2):
            (tmp_path / f"faces-{number}.tar").write_bytes(whole)
        open_source(f"webdataset:{tmp_path}/faces-{{0..2}}.tar")


def write_folder(root: Path) -> None:
    for person, image in ROWS:
        (root / NAMES[person]).mkdir(parents=True, exist_ok=True)
        (root / NAMES[person] / f"{image}.png").write_bytes(png(FACES[person][image]))


@pytest.mark.parametrize("layout", ["csv", "heading", "lst", "tsv16", "semicolons"])
def test_lists(tmp_path: Path, layout: str) -> None:
    write_folder(tmp_path / "images")
    paths = [(f"images/{NAMES[person]}/{image}.png", person) for person, image in ROWS]
    file = tmp_path / {"lst": "train.lst", "tsv16": "train.tsv"}.get(layout, "train.csv")
    match layout:
        case "csv":
            file.write_text("".join(f"{path},{NAMES[person]}\n" for path, person in paths))
        case "heading":
            with file.open("w", newline="") as stream:
                writer = csv.writer(stream)
                writer.writerow(["age", "Identity", "Path"])
                writer.writerows([3, person, path] for path, person in paths)
        case "lst":
            file.write_text("".join(f"{n}\t{person}.000000\t{path}\n" for n, (path, person) in enumerate(paths)))
        case "tsv16":
            file.write_text("".join(f"{path}\t{person}\n" for path, person in paths), encoding="utf-16")
        case "semicolons":
            file.write_text("﻿" + "".join(f"{path};{person}\n" for path, person in paths), encoding="utf-8")
    assert_same_faces(open_source(file))


def test_lists_whose_files_are_gone(tmp_path: Path) -> None:
    write_folder(tmp_path / "images")
    lines = [f"{NAMES[person]}/{image}.png,{person}\n" for person, image in ROWS]
    (tmp_path / "train.csv").write_text("".join(lines))
    with pytest.raises(
        FacekdError, match=r"none of the 12 images of .*train\.csv is in .*, the first anna/0\.png: give"
    ):
        open_source(tmp_path / "train.csv")
    whole = f"image-list:{tmp_path / 'train.csv'},root={tmp_path / 'images'}"
    assert_same_faces(open_source(whole))
    (tmp_path / "images/bela/2.png").unlink()
    with (tmp_path / "train.csv").open("a") as file:
        file.write("anna/0.png,-1\nanna/1.png\nanna/1.png,\n")
    source = open_source(whole)
    assert len(source) == 11
    assert source.broken == [  # type: ignore[attr-defined]
        ("bela/2.png", "no such file"),
        ("line 13", "its label is -1: no identity"),
        ("line 14", "1 fields: too few"),
        ("line 15", "its label is empty"),
    ]


def test_records_of_any_name_and_a_folder_of_splits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_folder(tmp_path / "set/train")
    (tmp_path / "set/val/anna").mkdir(parents=True)
    source = open_source(tmp_path / "set")
    assert (len(source), source.num_identities) == (12, 3)
    assert "its folder train is taken, the others are left for evaluation" in caplog.text
    pack_records(source, tmp_path / "packed/faces.rec")
    assert len(open_source(tmp_path / "packed")) == 12
    pack_records(source, tmp_path / "packed/more.rec")
    with pytest.raises(
        FacekdError, match=r"holds 2 \.rec files, such as faces\.rec: give one of them, or make one data"
    ):
        open_source(tmp_path / "packed")


@pytest.mark.parametrize("layout", ["parquet", "tar", "csv"])
def test_every_format_packs_to_the_same_records(tmp_path: Path, layout: str) -> None:
    """`data pack` of each: the files' own bytes, one person after the other."""
    match layout:
        case "parquet":
            write_parquet(tmp_path / "in.parquet", parquet_rows())
        case "tar":
            write_tar(tmp_path / "in.tar", tar_members(ROWS))
        case "csv":
            write_folder(tmp_path)
            lines = [f"{NAMES[person]}/{image}.png,{person}\n" for person, image in ROWS]
            (tmp_path / "in.csv").write_text("".join(lines))
    written = pack_records(open_source(tmp_path / f"in.{layout}"), tmp_path / "out/train.rec")
    assert (written["images"], written["identities"], written["broken"]) == (12, 3, [])
    records = open_source(tmp_path / "out")
    np.testing.assert_array_equal(records.labels, np.repeat(np.arange(PEOPLE), IMAGES))
    for i in range(12):
        assert records.encoded(i) == png(FACES[i // IMAGES][i % IMAGES])  # type: ignore[attr-defined]


def test_formats_that_are_not_read_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "faces.npz", x=np.zeros(3))
    (tmp_path / "lmdb").mkdir()
    (tmp_path / "lmdb/data.mdb").write_bytes(b"\0" * 100)
    for folder, file in (("records", "faces.tfrecord-00000-of-00002"), ("packed", "faces.tar.gz"), ("pile", "a.txt")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).write_bytes(b"x" * 100)
    write_folder(tmp_path / "deep/part1")
    cases = {
        "faces.npz": "it is NumPy arrays, which is not read; write each array as an image file",
        "lmdb": "lmdb is an LMDB, which is not read: write its images into folders",
        "records": "faces.tfrecord-00000-of-00002, a TFRecord file, which is not read",
        "packed": "faces.tar.gz, a compressed tar, which is not read: unpack it to a plain .tar",
        "pile": "holds no identity folder with images: it holds a.txt: put each person's images",
        "deep": "holds folders of folders of images: give one of them, such as ",
    }
    for name, message in cases.items():
        with pytest.raises(FacekdError) as refused:
            open_source(tmp_path / name)
        assert message in str(refused.value) and "\n" not in str(refused.value), name


def bad_faces(folder: Path) -> dict[str, tuple[str, str]]:
    """What people may give by mistake: name -> what to give, and what is said of it."""
    folder.mkdir()
    write_tar(folder / "outside.tar", {"../a.png": png(FACES[0][0]), "../a.cls": b"0"})
    write_tar(folder / "empty.tar", {})
    write_parquet(folder / "no-images.parquet", [{"label": 1, "text": "x"}] * 3)
    write_parquet(folder / "no-labels.parquet", [{"image": {"bytes": png(FACES[0][0]), "path": None}}])
    unlabelled: list[dict[str, Any]] = [{"image": {"bytes": png(FACES[0][0])}, "label": label} for label in (None, -1)]
    write_parquet(folder / "none.parquet", unlabelled)
    write_parquet(
        folder / "paths.parquet", [{"image": {"bytes": None, "path": f"{k}.png"}, "label": k} for k in (1, 2)]
    )
    (folder / "cut.parquet").write_bytes((folder / "paths.parquet").read_bytes()[:-20])
    (folder / "gone.csv").write_text("a.png,1\nb.png,2\n")
    (folder / "lmdb").mkdir()
    (folder / "lmdb/data.mdb").write_bytes(bytes(100))
    (folder / "a.tfrecord").write_bytes(b"x")
    np.savez(folder / "a.npz", x=np.zeros(3))
    return {
        "outside.tar": ("outside.tar", "the first outside.tar: ../a.png: its name points outside the tar"),
        "empty.tar": ("empty.tar", "holds no labelled image: 0 entries"),
        "no-images.parquet": ("no-images.parquet", "has no image column that is known by its name: it has label, text"),
        "no-labels.parquet": ("no-labels.parquet", "has no label column that is known by its name: it has image"),
        "none.parquet": (
            "none.parquet",
            "holds no labelled image: 2 entries that are none, the first none.parquet, row",
        ),
        "paths.parquet": ("paths.parquet", "only a path is stored: 1.png"),
        "cut.parquet": ("cut.parquet", "cannot be read as Parquet: "),
        "gone.csv": ("gone.csv", "none of the 2 images of "),
        "lmdb": ("lmdb", "is an LMDB, which is not read: write its images into folders"),
        "tfrecord": ("a.tfrecord", "it is a TFRecord file, which is not read; write its images into tars"),
        "npz": ("a.npz", "it is NumPy arrays, which is not read; write each array as an image file"),
        "URL": ("webdataset:http://127.0.0.1:9/a.tar", "cannot be read: the server does not answer ("),
        "column": (f"parquet:{folder / 'paths.parquet'},face=x", "unknown option face; valid are image=COLUMN and"),
    }


def test_bad_faces_are_one_line_and_nothing_is_written(tmp_path: Path) -> None:
    """`facekd data pack` of each: what was found is named, and no folder is left."""
    from facekd.cli import data

    app = typer.Typer()
    data.register(app)
    cases = bad_faces(tmp_path / "given")
    before = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))
    for name, (given, message) in cases.items():
        source = given if ":" in given else str(tmp_path / "given" / given)
        error = CliRunner().invoke(app, ["data", "pack", source, str(tmp_path / "out" / name)]).exception
        assert isinstance(error, FacekdError), (name, error)
        assert message in str(error) and "\n" not in str(error), (name, str(error))
        assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == before, name
