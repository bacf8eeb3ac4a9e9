"""The manifest of an exported artefact: what the file expects and returns, how it was verified, and its hashes."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from facekd.common.errors import FacekdError, UsageError
from facekd.common.file_kind import check_not_a_stand_in
from facekd.common.hashing import file_sha256
from facekd.common.validation import StrictSchema
from facekd.common.writing import atomic_file
from facekd.schemas.calibration import Calibration
from facekd.schemas.input_spec import InputSpec
from facekd.schemas.liveness import Liveness
from facekd.schemas.reading import read_versioned

SCHEMA_VERSION = 1
MANIFEST_FILE = "manifest.json"
LOG_FILE = "export.log"

Precision = Literal["fp32", "fp16", "int8", "w8", "palette"]
Layout = Literal["nchw", "nhwc"]
SpaceId = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""A sha256, in hexadecimal digits."""


class ArtefactInput(StrictSchema):
    """The one input of the exported file.

    Attributes:
        name: the tensor's name in the file.
        dtype: what the file takes: uint8 or image means pixels 0 to 255, float32 normalised pixels.
        layout: nchw or nhwc.
        batch: the fixed batch size, or None where any is valid.
        preprocess: "in": the file normalises (and orders the channels) itself and takes RGB pixels; "out": the caller
            normalises by `spec`.
        spec: size, colour order, mean and standard deviation of the model.
    """

    name: str
    dtype: Literal["float32", "uint8", "image"]
    layout: Layout
    batch: int | None = Field(ge=1, le=2**17)
    preprocess: Literal["in", "out"]
    spec: InputSpec


class ArtefactOutput(StrictSchema):
    """The one output: the raw embedding [b, width]; normalise it (L2) before comparing cosines."""

    name: str
    width: int = Field(ge=1, le=2**20)
    normalised: Literal[False] = False


class Parity(StrictSchema):
    """How far the artefact, run in `runtime`, is from the bundle in float32.

    Attributes:
        runtime: what executed the artefact.
        faces: number of faces compared.
        source: where the faces come from; "synthetic faces" where none were given.
        max_abs_difference: largest absolute difference between raw embedding components.
        scale: root mean square of the reference's components, which gives the difference its meaning.
        max_abs_difference_unit: the same between L2-normalised embeddings.
        cosine_min: smallest cosine between an exported embedding and the bundle's.
        cosine_mean: their mean.
        bounds: the bounds that were passed, by figure.
        batches: batch sizes proved.
    """

    runtime: str
    faces: int
    source: str
    max_abs_difference: float
    scale: float
    max_abs_difference_unit: float
    cosine_min: float
    cosine_mean: float
    bounds: dict[str, float]
    batches: list[int]


class Accuracy(StrictSchema):
    """Verification accuracy of bundle and artefact, fractions; changed decisions at the bundle's threshold.

    Attributes:
        protocol: how thresholds were chosen: "10 folds", or "one threshold for all pairs" where folds hold one kind.
        changed: pairs judged differently from the bundle at `threshold_cos`.
        changed_margin: the largest distance from the threshold, in cosine, of a bundle score whose decision changed.
    """

    dataset: str
    fingerprint: str
    pairs: int
    protocol: str = "10 folds"
    float_accuracy: float
    accuracy: float
    threshold_cos: float
    changed: int
    changed_margin: float
    max_accuracy_drop: float


class Latency(StrictSchema):
    """Median milliseconds of one image on one thread of the exporting machine; compare ratios, not machines.

    Attributes:
        float_ms: the same file before quantisation, timed in turn with it.
    """

    runtime: str
    threads: int
    machine: str
    repeats: int
    ms: float
    float_ms: float | None = None


class LayerLoss(StrictSchema):
    """One layer quantised alone: how much of the embedding it costs.

    Attributes:
        loss: 1 - mean cosine to the float embedding with only this layer quantised.
        kept_float: whether the artefact keeps it in float.
    """

    name: str
    loss: float
    kept_float: bool


class Quantisation(StrictSchema):
    """How the int8 file was made."""

    method: str
    calibration: str
    calibration_faces: int
    layers: list[LayerLoss]
    keep_float: list[str]


class GoldenFiles(StrictSchema):
    """An aligned crop and the embedding this artefact gives for it, for a start-up check on the device."""

    crop: str = "golden/crop.png"
    embedding: str = "golden/embedding.json"
    min_cosine: float


class BundleReference(StrictSchema):
    """The bundle the artefact was made from: its name and the sha256 of its weights."""

    name: str
    architecture: str
    sha256: str


class EmbeddingSpace(StrictSchema):
    """Which stored embeddings this file's embeddings may be compared with.

    Files of one bundle differ (fp32 and int8), so a file without this field is a space of its own.

    Attributes:
        id: of the space: that of the file's sha256, or of the file that it shares the space with.
        compatible_with: earlier spaces whose stored embeddings stay in use, as backward-compatible training provides
            (Shen et al., "Towards Backward-Compatible Representation Learning", CVPR 2020). It holds in this direction
            alone, and is not passed on.
    """

    id: SpaceId
    compatible_with: list[SpaceId] = Field(default_factory=list, max_length=255)

    def accepts(self, stored: str) -> bool:
        """Whether embeddings of the space `stored` may be compared with this file's."""
        return stored == self.id or stored in self.compatible_with


class Manifest(StrictSchema):
    """A whole artefact. `files` covers every file but the manifest itself and the log.

    Attributes:
        model: the model file (or .mlpackage folder), relative to the artefact.
        format_version: ONNX opset, Core ML specification version, TFLite schema or ExecuTorch schema, in words.
        size_bytes: of the model file or folder.
        calibration: thresholds for the rates that a gallery needs; from the bundle, or measured with this very file.
        liveness: networks that tell a live face from a picture of one; None where none were given.
        embedding_space: None: the file's own, which is the sha256 of `model` in `files`.
        operators: number of each operator in the file.
        partitions: parts that run in the accelerated delegate (XNNPACK); None where the runtime has none.
        usability: ONNX Runtime's verdict per mobile provider.
        details: facts of one target only: nodes before and after simplification, iOS version, ...
        sha256: of each file, by relative path.
    """

    schema_version: Literal[1] = 1
    name: str
    target: str
    precision: Precision
    created: str
    facekd_version: str
    bundle: BundleReference
    model: str
    format_version: str
    size_bytes: int
    input: ArtefactInput
    output: ArtefactOutput
    thresholds: list[dict[str, Any]] = Field(default_factory=list)
    calibration: Calibration | None = None
    liveness: Liveness | None = None
    embedding_space: EmbeddingSpace | None = None
    operators: dict[str, int]
    partitions: int | None = None
    usability: dict[str, dict[str, Any]] = Field(default_factory=dict)
    prelu_form: str | None = None
    parity: Parity
    accuracy: Accuracy | None = None
    latency: Latency | None = None
    quantisation: Quantisation | None = None
    golden: GoldenFiles
    details: dict[str, Any] = Field(default_factory=dict)
    seconds: float
    log: str = LOG_FILE
    versions: dict[str, str]
    files: dict[str, str]

    @property
    def num_operators(self) -> int:
        """Operators in the file, constants not counted."""
        return sum(self.operators.values())


def read_manifest(folder: str | Path) -> Manifest:
    """Reads and checks the manifest of the artefact `folder`.

    Raises:
        UsageError: there is no artefact.
        FacekdError: the manifest is corrupt or of a newer schema.
    """
    path = Path(folder) / MANIFEST_FILE
    if not path.is_file():
        raise UsageError(f"{folder} is not an exported artefact: no {MANIFEST_FILE}; make one with facekd export")
    return read_versioned(
        path, Manifest, newest=SCHEMA_VERSION, what="an artefact's manifest", advice="export the bundle again"
    )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes manifest.json into `folder`, whole or not at all."""
    with atomic_file(folder / MANIFEST_FILE, overwrite=True) as file:
        file.write((manifest.as_json(indent=2) + "\n").encode())


def hash_files(folder: Path) -> dict[str, str]:
    """sha256 of every file under `folder` by relative path, manifest and log left out."""
    return {
        path.relative_to(folder).as_posix(): file_sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).as_posix() not in (MANIFEST_FILE, LOG_FILE)
    }


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Compares every file with its hash.

    Raises:
        FacekdError: a file is missing, changed or not listed; names it.
    """
    found = hash_files(folder)
    for name, expected in manifest.files.items():
        if name not in found:
            raise FacekdError(f"{folder}: {name} is missing; export the bundle again")
        if found[name] != expected:
            check_not_a_stand_in(folder / name, "a file of an artefact", empty=False)
            raise FacekdError(
                f"{folder}: {name} was changed after it was exported (sha256 {found[name][:12]}..., the manifest says "
                f"{expected[:12]}...); export the bundle again"
            )
    extra = sorted(set(found) - set(manifest.files))
    if extra:
        raise FacekdError(f"{folder}: {extra[0]} is not in the manifest; remove it or export the bundle again")
