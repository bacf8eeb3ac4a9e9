"""`facekd data`: what it writes, what it prints, how it refuses."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from facekd.cli import data
from facekd.common.errors import FacekdError, Interrupted, UsageError
from facekd.data.decoding import encode_png
from facekd.data.opening import open_source
from facekd.data.sources.records import RecordReader
from facekd.data.sources.synthetic import SyntheticSource


def run(*arguments: object) -> Result:
    app = typer.Typer()
    data.register(app)
    return CliRunner().invoke(app, ["data", *map(str, arguments)])


def done(*arguments: object) -> dict[str, object]:
    """Runs with --json: stdout must be exactly one object."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.exception
    return json.loads(result.stdout)


def picture(value: int, side: int = 112) -> bytes:
    return encode_png(np.full((side, side, 3), value, np.uint8))


def people(folder: Path) -> Path:
    for name, count in {"ann": 2, "bob": 3}.items():
        (folder / name).mkdir(parents=True)
        for k in range(count):
            (folder / name / f"{k}.png").write_bytes(picture(40 * k + len(name)))
    return folder


def test_synth_writes_records_that_equal_the_source(tmp_path: Path) -> None:
    summary = done("synth", tmp_path / "s", "--identities", 3, "--images", 2, "--seed", 4, "--set", "noise=0")
    assert (summary["images"], summary["identities"], summary["broken"]) == (6, 3, [])
    written = open_source(tmp_path / "s")
    drawn = open_source("synthetic:identities=3,images=2,seed=4,noise=0")
    assert written.labels.tolist() == drawn.labels.tolist()
    assert np.abs(written.read(5).astype(int) - drawn.read(5)).mean() < 4  # JPEG
    assert sorted(file.name for file in (tmp_path / "s").iterdir()) == ["property", "train.idx", "train.rec"]


def test_synth_writes_a_folder(tmp_path: Path) -> None:
    done("synth", tmp_path / "f", "--identities", 2, "--images", 2, "--folder")
    assert [open_source(tmp_path / "f").key(i) for i in range(4)] == [
        "0/00000.jpg",
        "0/00001.jpg",
        "1/00000.jpg",
        "1/00001.jpg",
    ]
    assert [entry.name for entry in tmp_path.iterdir()] == ["f"]


def test_pack_copies_images_byte_for_byte_and_names_what_it_leaves_out(tmp_path: Path) -> None:
    source = people(tmp_path / "people")
    (source / "ann" / "9.png").write_bytes(b"")
    (source / "bob" / "9.jpg").write_bytes(picture(3)[:50])
    (source / "bob" / "8.png").write_bytes(picture(3, 64))
    summary = done("pack", source, tmp_path / "p.rec")
    assert (summary["images"], summary["identities"]) == (5, 2)
    assert [key for key, _ in summary["broken"]] == ["ann/9.png", "bob/8.png", "bob/9.jpg"]
    reader = RecordReader(tmp_path / "p.rec")
    assert reader.encoded(4) == (source / "bob" / "2.png").read_bytes()
    assert reader.labels.tolist() == [0, 0, 1, 1, 1]
    shown = run("pack", source, tmp_path / "q.rec").stdout
    assert "ann/9.png" in shown and "0 bytes" in shown


def test_pack_keeps_labels_dense_when_a_whole_identity_is_broken(tmp_path: Path) -> None:
    source = people(tmp_path / "people")
    (source / "aaa").mkdir()
    (source / "aaa" / "0.png").write_bytes(b"nothing")
    assert done("pack", source, tmp_path / "p.rec")["identities"] == 2
    assert RecordReader(tmp_path / "p.rec").label_values.tolist() == [0, 1]


def test_inspect_counts_and_names_and_draws(tmp_path: Path) -> None:
    source = people(tmp_path / "people")
    (source / "bob" / "9.png").write_bytes(b"nothing")
    (source / "bob" / "8.png").write_bytes(picture(3, 64))
    summary = done("inspect", source, "--sheet", tmp_path / "sheet.png")
    assert (summary["images"], summary["identities"]) == (7, 2)
    assert summary["sizes"] == {"112x112": 5, "64x64": 1}
    assert [key for key, _ in summary["broken"]] == ["bob/9.png"]
    assert sum(count for _, count in summary["histogram"]) == 2
    assert summary["images_per_identity"]["max"] == 5
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet.shape[0] > 2 * 112 and sheet.shape[1] > 5 * 112
    # Every face of the first person stands in the sheet as it is.
    for i in range(5):
        face = cv2.cvtColor(open_source(source).read(i), cv2.COLOR_RGB2BGR)
        assert float(cv2.matchTemplate(sheet, face, cv2.TM_SQDIFF).min()) < 1.0
    quick = done("inspect", source, "--quick")
    assert quick["sizes"] is None and quick["fingerprint"] == summary["fingerprint"]
    assert "bob/9.png" in run("inspect", source).stdout


def test_inspect_says_that_the_index_was_rebuilt(tmp_path: Path) -> None:
    done("pack", people(tmp_path / "people"), tmp_path / "p.rec")
    (tmp_path / "p.idx").unlink()
    assert "p.idx is missing" in done("inspect", tmp_path / "p.rec")["index_rebuilt"]


def test_align_keeps_folders_and_reports(tmp_path: Path, shared: Path) -> None:
    photographs = tmp_path / "photographs"
    for name in ("Angela_Bassett", "Abel_Pacheco"):
        (photographs / name).mkdir(parents=True)
        for file in (shared / "data/lfw_raw" / name).iterdir():
            (photographs / name / file.name).write_bytes(file.read_bytes())
    count = len(list(photographs.rglob("*.jpg")))
    (photographs / "Abel_Pacheco" / "wall.png").write_bytes(picture(90, 200))
    (photographs / "Abel_Pacheco" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    detector = shared / "weights/yunet_n_640_640.onnx"
    report = done("align", photographs, tmp_path / "out", "--detector", detector)
    assert (report["photographs"], report["aligned"], report["identities"]) == (count + 2, count, 2)
    assert report["not_found"] == ["Abel_Pacheco/wall.png"]
    assert [key for key, _ in report["unreadable"]] == ["Abel_Pacheco/broken.jpg"]
    assert json.loads((tmp_path / "out" / "report.json").read_text())["not_found"] == report["not_found"]
    assert len(open_source(tmp_path / "out")) == count
    alone = done("align", photographs, tmp_path / "alone", "--detector", detector, "--workers", "1")
    assert {**alone, "path": "", "report": ""} == {**report, "path": "", "report": ""}
    faces = {file.relative_to(tmp_path / "out"): file.read_bytes() for file in (tmp_path / "out").rglob("*.png")}
    assert len(faces) == count
    assert faces == {f.relative_to(tmp_path / "alone"): f.read_bytes() for f in (tmp_path / "alone").rglob("*.png")}
    done("align", photographs, tmp_path / "out.rec", "--detector", detector, "--format", "jpg")
    assert RecordReader(tmp_path / "out.rec").num_identities == 2
    result = run("align", photographs, tmp_path / "out", "--detector", detector)
    assert isinstance(result.exception, UsageError) and "--overwrite" in str(result.exception)
    assert len(open_source(tmp_path / "out")) == count


def test_align_that_finds_nothing_fails_and_leaves_nothing(tmp_path: Path, shared: Path) -> None:
    (tmp_path / "walls").mkdir()
    (tmp_path / "walls" / "a.png").write_bytes(picture(90, 200))
    result = run("align", tmp_path / "walls", tmp_path / "out", "--detector", shared / "weights/yunet_n_640_640.onnx")
    assert isinstance(result.exception, FacekdError) and result.exception.exit_code == 1
    assert "no face found in any of 1 photographs" in str(result.exception)
    assert [entry.name for entry in tmp_path.iterdir()] == ["walls"]


def _one_bad_image(folder: Path, content: bytes) -> Path:
    (folder / "bad" / "who").mkdir(parents=True)
    (folder / "bad" / "who" / "a.png").write_bytes(content)
    return folder / "bad"


BAD = {
    "missing file": (lambda t: t / "nowhere.rec", 2, "no data at"),
    "missing folder": (lambda t: t / "nowhere", 2, "no data at"),
    "empty folder": (lambda t: t, 1, "holds no identity folder"),
    "non-image": (lambda t: _one_bad_image(t, b"text"), 1, "not one of 1 images can be used"),
    "0 bytes": (lambda t: _one_bad_image(t, b""), 1, "0 bytes"),
    "wrong size": (lambda t: _one_bad_image(t, picture(1, 96)), 1, "96x96 images, not 112x112"),
    "typo in synthetic": (lambda t: "synthetic:identites=3", 2, "unknown field 'identites'"),
}


@pytest.mark.parametrize("kind", list(BAD))
def test_bad_input_gets_one_line_and_its_code(tmp_path: Path, kind: str) -> None:
    source, code, message = BAD[kind]
    result = run("pack", source(tmp_path), tmp_path / "out.rec")
    error = result.exception
    assert isinstance(error, FacekdError), result.output
    assert error.exit_code == code and message in str(error) and "\n" not in str(error)
    assert not list(tmp_path.glob("*out*")) and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("depth", ["8 bit", "1 channel", "16 bit"])
def test_pack_takes_unusual_pngs(tmp_path: Path, depth: str) -> None:
    pixels = {"8 bit": np.full((112, 112, 3), 90, np.uint8), "1 channel": np.full((112, 112), 90, np.uint8),
              "16 bit": np.full((112, 112, 3), 90 * 257, np.uint16)}[depth]  # fmt: skip
    source = _one_bad_image(tmp_path, cv2.imencode(".png", pixels)[1].tobytes())
    done("pack", source, tmp_path / "p.rec")
    assert RecordReader(tmp_path / "p.rec").read(0)[5, 5].tolist() == [90, 90, 90]


def test_overwriting_needs_the_word(tmp_path: Path) -> None:
    source = people(tmp_path / "people")
    done("pack", source, tmp_path / "p.rec")
    before = (tmp_path / "p.rec").read_bytes()
    refused = run("pack", source, tmp_path / "p.rec").exception
    assert isinstance(refused, UsageError) and "--overwrite" in str(refused)
    done("synth", tmp_path / "p.rec", "--identities", 2, "--images", 1, "--overwrite")
    assert (tmp_path / "p.rec").read_bytes() != before and len(RecordReader(tmp_path / "p.rec")) == 2


def test_no_room_to_write_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file" / "x.rec", Path("/proc/nowhere/x.rec")):
        error = run("synth", out, "--identities", 1, "--images", 1).exception
        assert isinstance(error, FacekdError) and error.exit_code == 1 and "cannot write" in str(error)
    error = run("synth", tmp_path / "file" / "folder", "--identities", 1, "--images", 1, "--folder").exception
    assert isinstance(error, FacekdError) and "cannot write" in str(error)


def test_no_permission_is_one_line(tmp_path: Path, ordinary_user: Callable[[], AbstractContextManager[Path]]) -> None:
    done("synth", tmp_path / "x.rec", "--identities", 1, "--images", 1)
    with ordinary_user() as folder:
        (folder / "locked").mkdir(mode=0o555)
        error = run("synth", folder / "locked" / "x.rec", "--identities", 1, "--images", 1).exception
    assert isinstance(error, FacekdError) and "Permission denied" in str(error)


def test_align_refuses_to_write_into_what_it_reads(tmp_path: Path, shared: Path) -> None:
    source = people(tmp_path / "people")
    for out in (source, source / "out", tmp_path):
        error = run(
            "align", source, out, "--detector", shared / "weights/yunet_n_640_640.onnx", "--overwrite"
        ).exception
        assert isinstance(error, UsageError) and "lie in each other" in str(error)
    assert len(open_source(source)) == 5


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="the limit on a file's size is POSIX")
@pytest.mark.parametrize("form", [[], ["--folder"]], ids=["records", "folder"])
def test_a_full_disk_is_said_with_the_path_and_leaves_nothing(tmp_path: Path, form: list[str]) -> None:
    """A limit on the size of files stands for the disk: a write fails midway, and so does the flush when closing."""
    out = tmp_path / "deep" / "faces"
    words = ["data", "synth", str(out), "--identities", "4", "--images", "4", *form]
    script = (
        "import resource, signal, sys; from facekd.cli import main; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({20_000 if not form else 1000},) * 2); "
        f"sys.argv = ['facekd', *{words!r}]; main()"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1 and "File too large" in ended.stderr and str(out) in ended.stderr
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]
    assert not out.exists()


@pytest.mark.parametrize("verb", ["synth", "synth --folder", "pack"])
def test_an_interrupt_says_that_nothing_was_kept(tmp_path: Path, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: SyntheticSource, i: int) -> np.ndarray:
        if i == 3:
            raise KeyboardInterrupt
        return self.draw(i)[0]

    monkeypatch.setattr(SyntheticSource, "read", interrupt)
    out = tmp_path / "out"
    given = ["synthetic:identities=3,images=3"] if verb == "pack" else []
    name, *options = verb.split()
    result = run(name, *given, out, *options)
    assert isinstance(result.exception, Interrupted) and result.exception.exit_code == 130
    assert str(result.exception) == f"interrupted: nothing was kept, {out} was not made; the same command starts again"
    assert not list(tmp_path.iterdir())
