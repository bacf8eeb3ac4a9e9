"""The face model that the demo serves: an exported artefact, or a foreign .onnx file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from facekd.common.errors import FacekdError, UsageError
from facekd.runtimes.encoding import Layout
from facekd.runtimes.opening import open_artefact, open_file
from facekd.schemas.calibration import Calibration
from facekd.schemas.input_spec import InputSpec
from facekd.schemas.liveness import Liveness
from facekd.schemas.manifest import MANIFEST_FILE, read_manifest, verify_files


@dataclass(frozen=True)
class Golden:
    """A crop whose embedding is known, so that the browser checks itself before it recognises anybody.

    Attributes:
        crop: PNG of an aligned face.
        embedding: what the exporting machine computed for it, raw.
        min_cosine: below it this browser computes something else.
    """

    crop: bytes
    embedding: list[float]
    min_cosine: float


@dataclass(frozen=True)
class LivenessFiles:
    """Liveness networks: their description, and the folder that its file names are relative to."""

    folder: Path
    described: Liveness


@dataclass(frozen=True)
class FaceModel:
    """The face model as the page needs it.

    Attributes:
        thresholds: as in the artefact's manifest (far, threshold_cos, dataset), of single comparisons.
        calibration: likewise, for galleries; None and no thresholds: similarities without decisions.
        takes_pixels: the file normalises RGB pixels itself.
        golden: None for a foreign file.
        output: name of the embedding among the file's outputs.
        liveness: networks that tell a live face from a picture of one; None where there are none.
    """

    name: str
    precision: str
    file: Path
    input_spec: InputSpec
    layout: Layout
    batch: int | None
    dtype: Literal["float32", "uint8"]
    takes_pixels: bool
    embedding_width: int
    thresholds: list[dict[str, Any]]
    golden: Golden | None
    output: str
    calibration: Calibration | None = None
    liveness: LivenessFiles | None = None


def open_face_model(
    path: Path, *, input_spec: InputSpec | None = None, layout: Layout | None = None, output: str | None = None
) -> FaceModel:
    """The model of an artefact (its folder, or its .onnx), or a foreign .onnx; run once, to be sure of it.

    Args:
        path: its place.
        input_spec: of a foreign file only, as for facekd.runtimes.opening.open_model.
        layout: likewise.
        output: likewise.

    Raises:
        UsageError: there is no such file, it is of another runtime, or the page cannot make its input.
        FacekdError: damaged, or changed after it was exported.
    """
    if not path.exists():
        raise UsageError(f"--model {path}: there is no such file or folder")
    folder = path if path.is_dir() else path.parent
    if path.is_file() and not ((folder / MANIFEST_FILE).is_file() and read_manifest(folder).model == path.name):
        if path.suffix != ".onnx":
            raise UsageError(f"--model {path}: the browser runs .onnx files; facekd export --target onnx makes one")
        embedder = open_file(path, input_spec=input_spec, layout=layout, output=output)
        encoding = embedder.encoding
        if encoding.quantisation is not None or encoding.dtype not in ("float32", "uint8"):
            quantised = "quantised " if encoding.quantisation is not None else ""
            raise UsageError(
                f"--model {path} takes {quantised}{encoding.dtype}: the demo's page makes float32 and uint8; convert "
                "the file's input to float32 (its weights may stay as they are)"
            )
        return FaceModel(
            name=path.stem,
            precision="as given",
            file=path,
            input_spec=embedder.input,
            layout=embedder.layout,
            batch=embedder.fixed_batch,
            dtype="uint8" if encoding.dtype == "uint8" else "float32",
            takes_pixels=encoding.values == "rgb",
            embedding_width=embedder.embedding_width,
            thresholds=[],
            golden=None,
            output=embedder.session.output.name,
        )
    if (input_spec, layout, output) != (None, None, None):
        raise UsageError(f"{folder} states its own input spec: leave --mean, --std, --colour, --layout, --output out")
    manifest = read_manifest(folder)
    if not manifest.model.endswith(".onnx"):
        raise UsageError(f"{folder} is for {manifest.target}: the browser runs ONNX; facekd export --target onnx")
    verify_files(folder, manifest)
    embedder = open_artefact(folder)
    try:
        record = json.loads((folder / manifest.golden.embedding).read_text(encoding="utf-8"))
        golden = Golden((folder / manifest.golden.crop).read_bytes(), record["embedding"], manifest.golden.min_cosine)
    except (ValueError, KeyError) as error:
        raise FacekdError(
            f"{folder / manifest.golden.embedding} is damaged ({error}): export the bundle again"
        ) from error
    return FaceModel(
        name=manifest.name,
        precision=manifest.precision,
        file=folder / manifest.model,
        input_spec=embedder.input,
        layout=embedder.layout,
        batch=embedder.fixed_batch,
        dtype="uint8" if manifest.input.dtype == "uint8" else "float32",
        takes_pixels=manifest.input.preprocess == "in",
        embedding_width=embedder.embedding_width,
        thresholds=manifest.thresholds,
        golden=golden,
        output=embedder.session.output.name,
        calibration=manifest.calibration,
        liveness=None if manifest.liveness is None else LivenessFiles(folder, manifest.liveness),
    )
