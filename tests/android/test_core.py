"""The Android demo's pure Kotlin part: its test vectors, its JUnit tests, its build tool's own checks."""

import hashlib
import json
import subprocess
import sys
import tarfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.android import liveness_reference
from tests.android.session_reference import AGREEING, people, reviews, sequences


def build(demo: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, demo / "build.py", *words]
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)


def test_vectors_are_what_python_computes_today(demo: Path, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regenerated and compared, so that Kotlin and Python cannot drift apart. Rounding may differ between machines."""
    monkeypatch.syspath_prepend(str(demo))
    from make_vectors import RESOURCES, make

    vectors, faces = make(shared / "weights" / "yunet_n_640_640.onnx")
    kept = json.loads((RESOURCES / "vectors.json").read_text(encoding="utf-8"))
    assert set(vectors) == set(kept)
    for part in ("yuv", "alignment", "liveness", "quality", "sharpness", "normalise", "scene", "crops"):
        np.testing.assert_allclose(numbers(vectors[part]), numbers(kept[part]), rtol=1e-5, atol=1e-4, err_msg=part)
    assert len(vectors["detector"]["faces"]) == len(kept["detector"]["faces"]) == 3
    np.testing.assert_allclose(numbers(vectors["detector"]["faces"]), numbers(kept["detector"]["faces"]), atol=0.05)
    pixels = [
        np.frombuffer(zlib.decompress(data), np.uint8).astype(int)
        for data in (faces, (RESOURCES / "faces.bin").read_bytes())
    ]
    assert np.abs(pixels[0] - pixels[1]).mean() < 0.1


def test_the_sessions_vectors_are_the_references(demo: Path) -> None:
    """Kotlin and JavaScript read the file; here it is what session_reference.py gives today."""
    for name, made in (
        ("session", sequences()),
        ("enrolment", reviews()),
        ("liveness", liveness_reference.sequences()),
    ):
        kept = json.loads((demo / f"core/src/test/resources/{name}.json").read_text(encoding="utf-8"))
        for ours, theirs in zip(leaves(json.loads(json.dumps(made))), leaves(kept), strict=True):
            assert ours == (pytest.approx(theirs, rel=1e-9, abs=1e-12) if isinstance(theirs, float) else theirs)


def test_no_name_outlives_its_face() -> None:
    """What nobody may get wrong, read from the sequences themselves: who is in the picture is known there."""
    known = people()
    for one in sequences():
        run_of: dict[int, int] = {}
        for frame in one["frames"]:
            for face, said in zip(frame["faces"], frame["expected"], strict=True):
                scores = {name: float(np.dot(face["embedding"], e)) for name, e in known.items()}
                truth = max(scores, key=lambda name: scores[name])
                good = said["fault"] is None
                run_of[said["track"]] = run_of.get(said["track"], 0) + good
                if said["verdict"] == "person":
                    assert (said["person"], good) == (truth, True), one["name"]
                if said["verdict"] in ("person", "unknown"):
                    assert run_of[said["track"]] >= AGREEING, one["name"]


def test_nobody_who_is_not_live_is_named() -> None:
    """Read from the liveness sequences themselves: a shown name rests on three live frames, this one among them."""
    named = 0
    for one in liveness_reference.sequences():
        if one["demand"] == "off":
            continue
        scores: list[float] = []
        for frame in one["frames"]:
            if len(frame["faces"]) != 1:
                continue
            if frame["verdicts"] != ["unusable"]:
                scores.append(frame["faces"][0]["live"] or 0.0)
            if frame["verdicts"] == ["person"] and frame["expected"] == ["clear"]:
                assert min(scores[-AGREEING:]) > one["live_above"], one["name"]
                named += 1
    assert named > 20


def leaves(value: object) -> list[object]:
    """Everything in a JSON value, in order."""
    if isinstance(value, dict):
        return [leaf for key in sorted(value) for leaf in [key, *leaves(value[key])]]
    return [leaf for item in value for leaf in leaves(item)] if isinstance(value, list) else [value]


@pytest.mark.usefixtures("fetched")
def test_core_passes_its_unit_tests(demo: Path) -> None:
    result = build(demo, "test")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "OK (" in result.stdout


def test_missing_files_are_one_line_that_says_what_to_do(demo: Path, tmp_path: Path) -> None:
    result = build(demo, "test", "--cache", tmp_path)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "android_demo/build.py fetch" in result.stderr


def test_a_changed_file_is_not_used(demo: Path, tmp_path: Path) -> None:
    (tmp_path / "junit-4.13.2.jar").write_bytes(b"another content")
    result = build(demo, "test", "--cache", tmp_path)
    assert result.returncode == 1
    assert "is not the pinned file" in result.stderr


def test_an_apk_without_its_parts_is_refused(demo: Path, tmp_path: Path) -> None:
    result = build(demo, "apk", "--cache", tmp_path, "--out", tmp_path / "a.apk")
    assert result.returncode == 1
    assert "--model, --detector, --onnxruntime-aar" in result.stderr
    assert not (tmp_path / "a.apk").exists()


def test_native_libraries_are_refused_by_page_and_version(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(demo))
    from building.errors import BuildError
    from building.native import check_library

    library = tmp_path / "libonnxruntime.so"
    library.write_bytes(elf(0x4000) + b"VERS_1.28.0\0")
    assert check_library(library, "lib") == "1.28"
    library.write_bytes(elf(0x1000) + b"VERS_1.28.0\0")
    with pytest.raises(BuildError, match="aligned to 4096"):
        check_library(library, "lib")
    for version in (b"VERS_1.29.0\0", b"VERS_1.25.0\0", b"VERS_1.28.0\0VERS_1.29.0\0", b""):
        library.write_bytes(elf(0x4000) + version)
        with pytest.raises(BuildError, match=r"valid are 1\.26 and 1\.28: 1\.29 and later send telemetry"):
            check_library(library, "lib")


def test_only_the_pinned_archive_is_kept(demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(demo))
    from building.cache import fetch_packed
    from building.errors import BuildError
    from building.pins import PackedPin

    (tmp_path / "bin").mkdir()
    (tmp_path / "x.aar").write_bytes(b"content")
    with tarfile.open(tmp_path / "x.tgz", "w:gz") as archive:
        archive.add(tmp_path / "x.aar", "package/x.aar")
    npm = tmp_path / "bin" / "npm"
    npm.write_text(f'#!/bin/sh\ncp "{tmp_path}/x.tgz" "$4/x-1.tgz"\n', encoding="utf-8")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(npm.parent), prepend=":")
    right = PackedPin("x@1", "package/x.aar", "x-1.aar", hashlib.sha256(b"content").hexdigest())
    with pytest.raises(BuildError, match="is not the pinned file: not kept"):
        fetch_packed(replace(right, sha256="0" * 64), tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    assert fetch_packed(right, tmp_path / "cache").read_bytes() == b"content"
    npm.unlink()
    monkeypatch.setenv("PATH", str(npm.parent))
    assert fetch_packed(right, tmp_path / "cache").name == "x-1.aar"  # it is there already
    with pytest.raises(BuildError, match="npm is not on the PATH"):
        fetch_packed(replace(right, file_name="y.aar"), tmp_path / "cache")


def elf(alignment: int) -> bytes:
    """A 64-bit ELF header with one loadable segment."""
    header = bytearray(64 + 56)
    header[:6] = b"\x7fELF\x02\x01"
    header[32:40] = (64).to_bytes(8, "little")
    header[54:58] = (56).to_bytes(2, "little") + (1).to_bytes(2, "little")
    header[64:68] = (1).to_bytes(4, "little")
    header[64 + 48 : 64 + 56] = alignment.to_bytes(8, "little")
    return bytes(header)


def numbers(value: object) -> np.ndarray:
    """All numbers of a JSON value, in order."""
    if isinstance(value, dict):
        return np.concatenate([numbers(v) for _, v in sorted(value.items())])
    if isinstance(value, list | tuple):
        return np.concatenate([numbers(v) for v in value]) if value else np.empty(0)
    return np.array([float(value)])  # type: ignore[arg-type]
