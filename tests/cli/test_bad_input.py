"""What goes wrong is one line on stderr that says what was given and what to do, with the right exit code."""

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

import facekd
from facekd.cli import main
from facekd.cli.output import print_table
from facekd.models.bundle import save_bundle
from facekd.models.describe import describe
from facekd.models.registry import create_model

TINY: dict[str, Any] = {
    "scale": 0.25,
    "mid_multiplier": 0.125,
    "blocks": [1, 1, 1, 1],
    "feature_channels": 16,
    "embedding_width": 16,
}
SWIN: dict[str, Any] = {"patch_size": 16, "embed_dim": 8, "depths": [1], "num_heads": [1], "embedding_width": 32}


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["facekd", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe, a student, a teacher and every kind of bad file."""
    root = tmp_path_factory.mktemp("bad")
    recipe = {
        "name": "tiny",
        "data": {"source": "synthetic:identities=3,images=4", "workers": 0},
        "model": {"arguments": TINY},
        "training": {"max_steps": 1, "batch_size": 4, "precision": "fp32", "channels_last": False},
    }
    (root / "tiny.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    student = create_model("mobilefacenet", **TINY)
    card = describe(student, kind="student", name="s", architecture="mobilefacenet", arguments=TINY)
    save_bundle(root / "student", student, card)
    teacher = create_model("swin_teacher", **SWIN)
    card = describe(teacher, kind="teacher", name="t", architecture="swin_teacher", arguments=SWIN)
    save_bundle(root / "teacher", teacher, card)
    (root / "empty").mkdir()
    (root / "one" / "somebody").mkdir(parents=True)
    grey = np.full((112, 112, 3), 90, np.uint8)
    cv2.imwrite(str(root / "one" / "somebody" / "a.png"), grey)
    for name in ("a", "b"):
        (root / "small" / name).mkdir(parents=True)
        cv2.imwrite(str(root / "small" / name / "x.png"), grey[:50, :40])
    (root / "text.rec").write_text("this is no record file", encoding="utf-8")
    (root / "zero.bin").write_bytes(b"")
    (root / "full").mkdir()
    (root / "full" / "precious.txt").write_text("mine", encoding="utf-8")
    return root


TRAIN = ("train", "{}/tiny.yaml", "--out", "{}/new")
DISTIL = ("distill", "{}/tiny.yaml", "--out", "{}/new")
CASES = [
    ("a recipe that is not there", ("train", "{}/no.yaml", "--out", "{}/new"), 2, "no recipe"),
    ("a typo in the recipe", (*TRAIN, "--set", "training.epoks=3"), 2, "did you mean 'epochs'?"),
    ("an unknown model", (*TRAIN, "--set", "model.name=mobilfacenet"), 2, "did you mean 'mobilefacenet'?"),
    ("an unknown head", (*TRAIN, "--set", "head.name=arkface"), 2, "valid: arcface"),
    ("data that is not there", (*TRAIN, "--data", "{}/nowhere"), 2, "no data at"),
    ("an empty folder", (*TRAIN, "--data", "{}/empty"), 1, "{}/empty"),
    ("one identity", (*TRAIN, "--data", "{}/one"), 2, "1 identity"),
    ("images of another size", (*TRAIN, "--data", "{}/small"), 1, "112"),
    ("a .rec that is none", (*TRAIN, "--data", "{}/text.rec"), 1, "text.rec"),
    ("an output that is not empty", ("train", "{}/tiny.yaml", "--out", "{}/full"), 2, "not empty"),
    ("distil without a method", DISTIL, 2, "names no distillation method"),
    ("distil without a teacher", (*DISTIL, "--set", "distillation=[embedding]"), 2, "needs a teacher"),
    (
        "a teacher of other width",
        (*DISTIL, "--set", "distillation=[embedding]", "--teacher", "{}/teacher"),
        2,
        "set model.arguments.embedding_width=32",
    ),
    (
        "a teacher that is a student",
        (*DISTIL, "--set", "distillation=[embedding]", "--teacher", "{}/student"),
        2,
        "teacher",
    ),
    (
        "a teacher that is no bundle",
        (*DISTIL, "--set", "distillation=[embedding]", "--teacher", "{}/empty"),
        2,
        "{}/empty",
    ),
    ("an unknown method", (*DISTIL, "--set", "distillation=[urfn]"), 2, "did you mean 'urfm'?"),
    ("pairs that are not there", ("evaluate", "{}/student", "--pairs", "{}/no.bin"), 2, "no.bin"),
    ("pairs of 0 bytes", ("evaluate", "{}/student", "--pairs", "{}/zero.bin"), 1, "zero.bin"),
    ("a model that is not there", ("info", "{}/no"), 2, "{}/no"),
    ("a photograph that is none", ("embed", "{}/student", "{}/tiny.yaml", "--out", "{}/e.csv"), 1, "tiny.yaml"),
    ("an unknown export target", ("export", "{}/student", "--target", "coral", "--out", "{}/x"), 2, "coral"),
    ("a quickstart over something", ("quickstart", "--out", "{}/full"), 2, "not empty"),
]


@pytest.mark.parametrize(("words", "code", "message"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_one_line_and_the_right_exit_code(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    assert run(monkeypatch, *(word.replace("{}", str(place)) for word in words)) == code
    out, err = capfd.readouterr()
    assert message.replace("{}", str(place)) in err
    said = [line for line in err.splitlines() if line.startswith("facekd: ")]
    assert len(said) == 1, err
    assert "Traceback" not in err + out
    assert (place / "full" / "precious.txt").read_text(encoding="utf-8") == "mine"


def test_debug_shows_the_trace(place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "train", place / "no.yaml", "--out", place / "new", "--debug") == 2
    assert "Traceback" in capfd.readouterr().err


def test_an_unknown_option_is_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "info", "--nonsense") == 2


def test_no_write_permission_says_so(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Root may write anywhere, so the system's refusal is played."""

    def refuse(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert run(monkeypatch, "train", place / "tiny.yaml", "--out", place / "forbidden") == 1
    assert "Permission denied" in capfd.readouterr().err


def test_json_is_one_object_on_stdout(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "info", place / "student", "--json") == 0
    assert json.loads(capfd.readouterr().out)


def test_what_nobody_foresaw_is_one_line_too(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(path: Path) -> None:
        raise RuntimeError(f"line\nbreak in {path}")

    monkeypatch.setattr("facekd.models.bundle_files.verified_by_note", fail)
    assert run(monkeypatch, "info", place / "student") == 1
    err = capfd.readouterr().err
    assert err.startswith("facekd: unexpected RuntimeError: line break in ") and err.endswith(
        "(--debug shows the trace)\n"
    )
    assert err.count("\n") == 1


def test_version(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--version") == 0
    assert capfd.readouterr().out == f"facekd {facekd.__version__}\n"


def test_tables_keep_paths_whole_and_brackets_literal(capfd: pytest.CaptureFixture[str]) -> None:
    path = "/somewhere/" + "deep/" * 40 + "x.rec"
    print_table(f"written to {path}", ("[b]image", "why"), [("a[/b].jpg", None)], caption=path)
    out = capfd.readouterr().out
    assert f"written to {path}\n" in out and out.endswith(f"{path}\n")
    assert "a[/b].jpg" in out and "[b]image" in out
