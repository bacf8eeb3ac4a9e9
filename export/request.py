"""What a user asks of `facekd export`, checked, and carried out."""

import os
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from facekd.common.errors import UsageError
from facekd.common.progress import progress_bar
from facekd.data.opening import load_verification_set
from facekd.export.check import CheckReport, check_artefact
from facekd.export.faces import Faces, faces_from_pairs, faces_from_source, read_crop, synthetic_faces
from facekd.export.matrix import ExportCell, options_for, plan, run_matrix
from facekd.export.options import CalibrationMethod, ExportOptions
from facekd.export.pipeline import Gate, Reference
from facekd.export.rewrite import PRELU_FORMS
from facekd.models.bundle import load_bundle
from facekd.runtimes.liveness import open_liveness_files
from facekd.schemas.manifest import read_manifest

_CHOICES = {
    "layout": ("nchw", "nhwc"),
    "preprocess": ("in", "out"),
    "calibration_method": typing.get_args(CalibrationMethod),
    "prelu": tuple(PRELU_FORMS),
}


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """The options of `facekd export` as they were typed; see its help. None leaves the choice to the target."""

    bundle: Path
    out: Path
    targets: tuple[str, ...]
    precisions: tuple[str, ...]
    calibration: str | None = None
    calibration_faces: int = 128
    calibration_method: str = "minmax"
    percentile: float = 99.99
    keep_float: str = "auto"
    pairs: str | None = None
    faces: int = 32
    max_accuracy_drop: float = 0.3
    min_cosine: float | None = None
    batch: str | None = None
    layout: str | None = None
    preprocess: str | None = None
    opset: int = 20
    min_ios: int | None = None
    tensor_input: bool = False
    palette_bits: int = 6
    prelu: str | None = None
    golden_crop: Path | None = None
    liveness: tuple[Path, ...] = ()
    liveness_threshold: float | None = None
    overwrite: bool = False
    resume: bool = False

    def validate(self) -> None:
        """Raises: UsageError: a value out of its range, with the valid ones."""
        for name, valid in _CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in valid:
                raise UsageError(f"--{name.replace('_', '-')} {value}: valid: {', '.join(valid)}")
        if not 50 < self.percentile <= 100:
            raise UsageError(f"--percentile {self.percentile:g}: valid: above 50 to 100")
        if self.max_accuracy_drop < 0:
            raise UsageError(f"--max-accuracy-drop {self.max_accuracy_drop:g}: valid: 0 or more points")
        if self.min_cosine is not None and not -1 <= self.min_cosine <= 1:
            raise UsageError(f"--min-cosine {self.min_cosine:g}: valid: -1 to 1")
        if self.faces < 1 or self.calibration_faces < 1:
            raise UsageError("--faces and --calibration-faces: give at least 1")
        if self.liveness_threshold is not None:
            if not self.liveness:
                raise UsageError("--liveness-threshold is of liveness networks: give --liveness FILE too")
            if not 0 <= self.liveness_threshold < 1:
                raise UsageError(f"--liveness-threshold {self.liveness_threshold:g}: valid: 0 to below 1")
        if self.overwrite and self.resume:
            raise UsageError("--overwrite replaces what is there, --resume keeps it: give one of them")
        if not self.targets or not self.precisions:
            raise UsageError("--target and --precision: name at least one")


def run_request(request: ExportRequest) -> tuple[str, list[ExportCell]]:
    """Carries out a request; the model's name and the cells. Progress is shown on stderr.

    Raises:
        UsageError: an option, a path or a destination is not valid.
        FacekdError: with a single cell, whatever made it fail.
    """
    request.validate()
    cells = plan(request.targets, request.precisions, request.out)
    reference, calibration = _open(request, needs_calibration=any(c.offered and c.precision == "int8" for c in cells))
    kept = request.keep_float

    def options(cell: ExportCell) -> ExportOptions:
        compressed = cell.precision in ("w8", "palette")
        base = ExportOptions(
            precision="fp32",
            opset=request.opset,
            min_ios=request.min_ios if request.min_ios is not None else (16 if compressed else 15),
            image_input=not request.tensor_input,
            calibration=calibration.images if calibration else None,
            calibration_source=calibration.source if calibration else "",
            calibration_method=typing.cast(CalibrationMethod, request.calibration_method),
            percentile=request.percentile,
            keep_float="auto" if kept == "auto" else () if kept == "none" else tuple(kept.split(",")),
            palette_bits=request.palette_bits,
            prelu_form=request.prelu,
        )
        return options_for(cell, base, batch=request.batch, layout=request.layout, preprocess=request.preprocess)

    gate = Gate(max_accuracy_drop=request.max_accuracy_drop, min_cosine=request.min_cosine)
    with _progress(len(cells)) as (say, advance):
        return reference.bundle.card.name, run_matrix(
            reference,
            cells,
            options,
            gate=gate,
            overwrite=request.overwrite,
            resume=request.resume,
            say=say,
            advance=advance,
        )


def check_request(artefact: Path, *, bundle: Path | None, source: str | None, faces: int) -> CheckReport:
    """`facekd export check`.

    Raises:
        UsageError: a path is not valid.
        FacekdError: the artefact does not pass.
    """
    manifest = read_manifest(artefact)
    if bundle is None:
        if source is not None:
            raise UsageError("--source is compared with the bundle: give --bundle too")
        return check_artefact(artefact)
    size = manifest.input.spec.size
    images = faces_from_source(source, faces, size) if source is not None else synthetic_faces(faces, size)
    return check_artefact(artefact, bundle=load_bundle(bundle), faces=images.images)


def _open(request: ExportRequest, *, needs_calibration: bool) -> tuple[Reference, Faces | None]:
    bundle = load_bundle(request.bundle)
    size = bundle.card.input.size
    if needs_calibration and request.calibration is None:
        raise UsageError("precision int8 needs faces to calibrate on: give --calibration SRC (a .rec file or a folder)")
    calibration = None
    if request.calibration is not None:
        calibration = faces_from_source(request.calibration, request.calibration_faces, size)
    liveness = None
    if request.liveness:
        liveness = open_liveness_files(request.liveness, threshold=request.liveness_threshold)
    pairs = load_verification_set(request.pairs) if request.pairs is not None else None
    crop = read_crop(request.golden_crop, size) if request.golden_crop is not None else None
    if pairs is not None:
        faces = faces_from_pairs(pairs, request.faces, size)
    elif request.calibration is not None:
        faces = faces_from_source(request.calibration, request.faces, size)
    else:
        faces = synthetic_faces(request.faces, size)
    return Reference(bundle=bundle, faces=faces, pairs=pairs, golden_crop=crop, liveness=liveness), calibration


@contextmanager
def _progress(cells: int) -> Iterator[tuple[Callable[[str], None], Callable[[], None]]]:
    """A bar over the cells with the time they still take; where stderr is no terminal, a line for each step.

    On a copy of stderr's file descriptor, since the converters' streams are redirected while it shows what they do.
    """
    with os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace") as file:
        console = Console(file=file)
        if not console.is_terminal:
            yield lambda text: print(text, file=file, flush=True), lambda: None
            return
        with progress_bar("export", cells, console=console, redirect=False) as bar:
            yield bar.describe, bar.advance
