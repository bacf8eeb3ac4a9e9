"""A folder of photographs -> aligned faces, with a report of what was not found."""

import functools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from facekd.common.errors import FacekdError, UsageError
from facekd.common.hashing import file_sha256, parts_sha256
from facekd.common.parallel import ordered_map
from facekd.common.parent_folders import parent_folders
from facekd.common.parts import SUFFIX, kept_said, open_parts
from facekd.common.progress import Track, silently
from facekd.common.validation import shown
from facekd.common.writing import WriteError, atomic_file, atomic_folder, check_replaceable, listed_kind
from facekd.data.aligned_parts import KIND, AlignedParts, Outcome
from facekd.data.alignment import align
from facekd.data.decoding import decode_image, encode_jpeg, encode_png
from facekd.data.detection import FaceDetector, choose_face
from facekd.data.image_files import file_size, in_words, list_images, read_image_file
from facekd.data.packing import check_apart
from facekd.data.record_writer import RecordWriter
from facekd.data.source import UnreadableImage

ALIGNED_FACES = listed_kind("a folder of faces that facekd aligned")


@dataclass
class AlignReport:
    """What became of every photograph; keys are paths relative to the folder."""

    photographs: int = 0
    aligned: int = 0
    identities: int = 0
    several_faces: list[str] = field(default_factory=list)
    not_found: list[str] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    passed_over: list[tuple[str, str]] = field(default_factory=list)
    path: str = ""
    report: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def align_folder(
    photographs: str | Path,
    out: str | Path,
    detector: FaceDetector,
    *,
    size: int = 112,
    image_format: str = "png",
    quality: int = 95,
    overwrite: bool = False,
    pool: Executor | None = None,
    track: Track = silently,
) -> AlignReport:
    """Detects, chooses and aligns one face a photograph.

    What is aligned is kept in OUT.parts until the output is there: after Ctrl-C, a kill or a full disk, the same call
    goes on.

    Args:
        photographs: folder, searched in depth; its sub-folders are kept.
        out: a folder, or a name that ends in .rec (then every sub-folder is an identity).
        detector: finds the faces; `choose_face` takes the most prominent.
        size: side of the aligned face in pixels.
        image_format: "png" (lossless) or "jpg" (`quality`).
        quality: of JPEGs.
        overwrite: replace what is there, and parts of another run.
        pool: see facekd.common.parallel; what is written does not depend on it.
        track: shows progress.

    Raises:
        UsageError: `out` is taken, or its parts are of other photographs, another detector or options.
        Interrupted: by Ctrl-C.
        FacekdError: not one face was found; nothing is written then.
    """
    photographs, out = Path(photographs), Path(out)
    if not photographs.is_dir():
        raise UsageError(f"no folder of photographs at {photographs}")
    if image_format not in _ENCODERS:
        raise UsageError(f"unknown image format {shown(image_format)}: one of {', '.join(_ENCODERS)}")
    check_apart(photographs, out)
    found = list_images(photographs)
    files = sorted(found.images, key=lambda file: (file.parent.as_posix(), file.name))
    if not files:
        others = f"; it holds {', '.join(in_words(found.passed_over))}" if found.passed_over else ""
        raise FacekdError(f"{photographs} holds no photograph, in any sub-folder{others}")
    report = AlignReport(photographs=len(files), path=str(out), passed_over=found.passed_over)
    report.report = str(out.with_suffix(".report.json") if out.suffix == ".rec" else out / "report.json")
    writer = _checked(out, size, overwrite, report)
    align_one = functools.partial(_align_one, photographs.absolute(), detector, size, image_format, quality)
    facts = {
        "set of photographs": _fingerprint(photographs, files),
        "--detector": parts_sha256("detector", file_sha256(detector.path), detector.settings()),
        "--size": str(size),
        "--format": f"{image_format} {quality}",
    }
    place = out.with_name(out.name + SUFFIX)
    there = "is as it was before" if out.exists() else "was not made"
    nothing = f"nothing was kept, {out} {there}; the same command starts again"
    with (
        _system_errors_said(out),
        parent_folders(place),
        open_parts(place, KIND, AlignedParts, facts, total=len(files), overwrite=overwrite) as parts,
        kept_said(parts, KIND.items, nothing=nothing),
    ):
        todo = files[parts.done :]
        with closing(ordered_map(pool, align_one, todo)) as outcomes:
            parts.fill(track(outcomes, len(todo), "aligning"))
        faces = _noted(zip(files, parts.outcomes(), strict=True), report)
        try:
            if writer is not None:
                _write_records(faces, writer, overwrite, report)
            else:
                _write_folder(faces, out, image_format, overwrite, report)
        except _NoFace:
            parts.remove()
            raise
        parts.remove()
    return report


class _NoFace(FacekdError):
    """In any photograph."""


def _checked(out: Path, size: int, overwrite: bool, report: AlignReport) -> RecordWriter | None:
    """Refuses a place that is taken, before hours of work; the writer of a .rec."""
    if out.suffix != ".rec":
        check_replaceable(out, ALIGNED_FACES, overwrite=overwrite)
        return None
    _check_report(Path(report.report), overwrite=overwrite)
    return RecordWriter(out, size=(size, size), overwrite=overwrite)


def _fingerprint(photographs: Path, files: Sequence[Path]) -> str:
    sizes = np.array([file_size(photographs / file) for file in files], dtype=np.int64)
    return parts_sha256("photographs", "\0".join(file.as_posix() for file in files), sizes)


@contextmanager
def _system_errors_said(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WriteError(f"cannot write {out}: {error.strerror or error}") from None


def _align_one(photographs: Path, detector: FaceDetector, size: int, form: str, quality: int, file: Path) -> Outcome:
    key = file.as_posix()
    try:
        image = decode_image(read_image_file(photographs / file, key), key)
    except UnreadableImage as error:
        return Outcome(None, error.reason)
    faces = detector.detect(image)
    face = choose_face(faces, image.shape[1], image.shape[0])
    if face is None:
        return Outcome(None)
    try:
        aligned = align(image, face.landmarks, size)
    except FacekdError as error:
        return Outcome(None, str(error))
    return Outcome(_ENCODERS[form](aligned, quality), several=len(faces) > 1)


def _noted(outcomes: Iterable[tuple[Path, Outcome]], report: AlignReport) -> Iterator[tuple[Path, bytes]]:
    """(relative path, encoded face) of every photograph that has one; the others go into the report."""
    for file, outcome in outcomes:
        key = file.as_posix()
        if outcome.face is None:
            if outcome.why:
                report.unreadable.append((key, outcome.why))
            else:
                report.not_found.append(key)
            continue
        if outcome.several:
            report.several_faces.append(key)
        report.aligned += 1
        yield file, outcome.face


def _write_folder(
    faces: Iterator[tuple[Path, bytes]], out: Path, form: str, overwrite: bool, report: AlignReport
) -> None:
    identities: Counter[Path] = Counter()
    with atomic_folder(out, kind=ALIGNED_FACES, overwrite=overwrite) as folder:
        for file, aligned in faces:
            target = folder / file.with_suffix(f".{form}")
            if target.exists():  # a.jpg and a.png
                target = folder / f"{file}.{form}"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(aligned)
            identities[file.parent] += 1
        report.identities = len(identities)
        _require_some(report)
        (folder / "report.json").write_text(json.dumps(report.as_dict(), indent=2) + "\n")


def _write_records(
    faces: Iterator[tuple[Path, bytes]], records: RecordWriter, overwrite: bool, report: AlignReport
) -> None:
    labels: dict[Path, int] = {}
    with records as writer:
        for file, aligned in faces:
            label = labels.setdefault(file.parent, len(labels))
            writer.write(label, aligned)
        report.identities = len(labels)
        _require_some(report)
        _check_report(Path(report.report), overwrite=overwrite)  # it may have taken hours
    names = [folder.as_posix() for folder in labels]
    with atomic_file(Path(report.report), overwrite=True) as stream:
        stream.write((json.dumps({**report.as_dict(), "labels": names}, indent=2) + "\n").encode())


def _check_report(path: Path, *, overwrite: bool) -> None:
    """Refuses to replace a file that is not such a report."""
    if not path.exists():
        return
    if not overwrite:
        raise UsageError(f"{path} exists: choose another name for the .rec, or overwrite both with --overwrite")
    try:
        written_by_us = "photographs" in json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, RecursionError):
        written_by_us = False
    if not written_by_us:
        raise UsageError(f"{path} is not a report of facekd data align, so it is never replaced: choose another name")


def _require_some(report: AlignReport) -> None:
    if report.aligned == 0:
        first = (report.not_found or [key for key, _ in report.unreadable])[0]
        raise _NoFace(
            f"no face found in any of {report.photographs} photographs ({len(report.not_found)} without a face, "
            f"{len(report.unreadable)} unreadable), the first {first}"
        )


_ENCODERS = {"png": lambda image, quality: encode_png(image), "jpg": encode_jpeg}
