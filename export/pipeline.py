"""Export, in order: convert, optimise, quantise, verify, write. An artefact that fails a step never appears."""

import os
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from facekd.common.errors import FacekdError, first_line
from facekd.common.versions import __version__, package_versions
from facekd.evaluation.verification import VerificationResult
from facekd.export import golden
from facekd.export.artefact_folder import check_destination, staged
from facekd.export.faces import Faces, synthetic_faces
from facekd.export.liveness import write_liveness
from facekd.export.logs import captured
from facekd.export.measure import compare_accuracy, evaluate_bundle, measure_latency
from facekd.export.network import Network
from facekd.export.options import ExportOptions
from facekd.export.parity import (
    PROVED_BATCHES,
    GateError,
    ParityFigures,
    bounds_for,
    compare,
    first_divergence,
    violation,
)
from facekd.export.targets.base import Conversion, Target, get_target, refuse
from facekd.models.bundle import Bundle
from facekd.runtimes.embedder import FileEmbedder
from facekd.runtimes.files import ModelFiles
from facekd.runtimes.liveness import LivenessDetector
from facekd.runtimes.opening import open_stated
from facekd.schemas.manifest import (
    LOG_FILE,
    Accuracy,
    ArtefactOutput,
    BundleReference,
    Manifest,
    Parity,
    hash_files,
    write_manifest,
)

# A float artefact may decide differently from the bundle only this near to the threshold, in cosine.
ROUNDING_COS = {"fp32": 1e-4, "fp16": 2e-3}
Say = Callable[[str], None]


@dataclass
class Reference:
    """The bundle in float32 and everything it is asked once for, however many artefacts are compared with it.

    Attributes:
        bundle: the model.
        faces: the parity faces.
        pairs: a verification set for accuracy before and after, or None.
        golden_crop: uint8 RGB [h, w, 3]; default one of facekd's synthetic faces, which is nobody's.
        liveness: networks that go into each artefact as they are, opened and tried.
    """

    bundle: Bundle
    faces: Faces
    pairs: Any = None
    golden_crop: np.ndarray | None = None
    liveness: LivenessDetector | None = None

    @cached_property
    def network(self) -> Network:
        """The folded module with the metadata each file carries."""
        card = self.bundle.card
        thresholds = {f"{t.far:g}": t.threshold_cos for t in card.thresholds}
        return Network.build(
            self.bundle.model,
            spec=card.input,
            embedding_width=card.embedding_width,
            metadata={
                "name": card.name,
                "colour": card.input.colour,
                "mean": ",".join(f"{v:g}" for v in card.input.mean),
                "std": ",".join(f"{v:g}" for v in card.input.std),
                "size": "x".join(map(str, card.input.size)),
                "embedding_width": str(card.embedding_width),
                "embedding": "raw, L2-normalise before comparing",
                "bundle_sha256": card.sha256,
                "threshold_cos": ",".join(f"far {far}: {cos:.4f}" for far, cos in thresholds.items()) or "not measured",
            },
        )

    @cached_property
    def embeddings(self) -> np.ndarray:
        """The bundle's raw embeddings [n, e] of the parity faces."""
        return self.embed(self.faces.images)

    @cached_property
    def crop(self) -> np.ndarray:
        """The golden crop, uint8 RGB [h, w, 3]."""
        if self.golden_crop is not None:
            return self.golden_crop
        array: np.ndarray = synthetic_faces(1, self.bundle.card.input.size).images[0].transpose(1, 2, 0)
        return array

    @cached_property
    def accuracy(self) -> VerificationResult:
        """10-fold verification of the bundle in float32 on `pairs`."""
        return evaluate_bundle(self.bundle, self.pairs)

    def embed(self, images: np.ndarray) -> np.ndarray:
        """Raw float32 embeddings [n, e] of uint8 RGB images [n, 3, h, w], by the bundle itself, batch by batch."""
        parts = [self.bundle.embed(torch.from_numpy(images[i : i + 32])) for i in range(0, len(images), 32)]
        return torch.cat(parts).numpy()


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What an artefact must keep: accuracy within `max_accuracy_drop` points, cosines above `min_cosine`."""

    max_accuracy_drop: float = 0.3
    min_cosine: float | None = None


def export_artefact(
    reference: Reference,
    target: str,
    options: ExportOptions,
    out: Path,
    *,
    gate: Gate | None = None,
    overwrite: bool = False,
    say: Say = lambda _: None,
) -> Manifest:
    """Writes one artefact at `out`, verified against the bundle; on any failure nothing is there.

    Args:
        reference: the bundle and its faces.
        target: a name of `list_targets()`.
        options: precision, batch, layout, ...
        out: the artefact's folder.
        gate: bounds.
        overwrite: replace an artefact that is already there.
        say: called with each step's name.

    Raises:
        UsageError: the target or an option is not valid, a package is missing, or `out` is taken.
        FacekdError: the conversion failed, or the artefact is not the bundle (GateError).
    """
    maker = get_target(target)
    maker.validate(options)
    check_destination(out, overwrite=overwrite)
    gate = gate or Gate()
    start = time.perf_counter()
    with staged(out, overwrite=overwrite) as folder, tempfile.TemporaryDirectory(prefix="facekd-") as temporary:
        try:
            with captured(folder / LOG_FILE):
                maker.require()
                say(f"{target} {options.precision}: convert")
                conversion = _converted(maker, reference, options, folder, Path(temporary))
                say(f"{target} {options.precision}: verify")
                manifest = _verified(reference, maker, options, conversion, folder, gate, say)
        except FacekdError as error:
            inside = f"{folder}{os.sep}"  # a folder that is gone when the message is read
            if inside not in str(error) and not isinstance(error, GateError):
                raise
            told = str(error).replace(inside, "")
            raise type(error)(f"target {target}, precision {options.precision}: {told}") from error
        manifest.seconds = time.perf_counter() - start
        write_manifest(folder, manifest)
    return manifest


def _converted(maker: Target, reference: Reference, options: ExportOptions, folder: Path, scratch: Path) -> Conversion:
    try:
        return maker.convert(reference.network, folder, options, scratch)
    except FacekdError:
        raise
    # The boundary to five converters, each with errors of its own; the log has the trace.
    except Exception as error:
        traceback.print_exc()
        raise refuse(maker.name, f"precision {options.precision}: conversion failed")(error) from error


def _verified(
    reference: Reference,
    maker: Target,
    options: ExportOptions,
    conversion: Conversion,
    folder: Path,
    gate: Gate,
    say: Say,
) -> Manifest:
    card = reference.bundle.card
    path = folder / conversion.model
    embedder = open_stated(path, conversion.input, width=card.embedding_width, threads=1)
    parity = prove(reference, maker, options, embedder, gate)
    accuracy = None
    if reference.pairs is not None:
        say(f"{maker.name} {options.precision}: accuracy on {reference.pairs.name}")
        accuracy = compare_accuracy(
            reference.accuracy, embedder, reference.pairs, max_accuracy_drop=gate.max_accuracy_drop
        )
        judge_accuracy(accuracy, options.precision)
    before = None
    if conversion.float_model is not None:
        before = open_stated(conversion.float_model, conversion.input, threads=1)
    latency = measure_latency(embedder, reference.faces.images[0], before=before)
    crop = reference.crop.transpose(2, 0, 1)[None]
    files = golden.write_golden(
        folder,
        reference.crop,
        embedder.embed(crop)[0],
        reference.embed(np.ascontiguousarray(crop))[0],
        precision=options.precision,
    )
    return Manifest(
        name=card.name,
        target=maker.name,
        precision=options.precision,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        facekd_version=__version__,
        bundle=BundleReference(name=card.name, architecture=card.architecture.name, sha256=card.sha256),
        model=conversion.model,
        format_version=conversion.format_version,
        size_bytes=ModelFiles.of(path).size_bytes,
        input=conversion.input,
        output=ArtefactOutput(name=conversion.output_name, width=card.embedding_width),
        thresholds=[threshold.model_dump() for threshold in card.thresholds],
        calibration=card.calibration,
        liveness=write_liveness(folder, reference.liveness) if reference.liveness is not None else None,
        operators=conversion.operators,
        partitions=conversion.partitions,
        usability=conversion.usability,
        prelu_form=conversion.prelu_form,
        parity=parity,
        accuracy=accuracy,
        latency=latency,
        quantisation=conversion.quantisation,
        golden=files,
        details={**conversion.details, **({"merged": merged} if (merged := reference.network.merged) else {})},
        seconds=0.0,
        versions=package_versions("facekd", *conversion.packages),
        files=hash_files(folder),
    )


def prove(
    reference: Reference,
    maker: Target,
    options: ExportOptions,
    embedder: FileEmbedder,
    gate: Gate,
) -> Parity:
    """Runs the artefact on the parity faces, at every batch it promises.

    Raises:
        GateError: figure, bound and the first layer that diverges.
    """
    batches = [embedder.fixed_batch] if embedder.fixed_batch else list(PROVED_BATCHES)
    worst: ParityFigures | None = None
    bounds: dict[str, float] = {}
    for batch in batches:
        # A small batch need not see every face again: the first batch does, the others prove the shape.
        count = len(reference.faces) if batch == batches[0] else min(batch, len(reference.faces))
        images = (
            reference.faces.images[:count]
            if count >= batch
            else np.resize(reference.faces.images, (batch, *reference.faces.images.shape[1:]))
        )
        wanted = reference.embeddings[np.arange(len(images)) % len(reference.faces)]
        try:
            figures = compare(wanted, embedder.embed(images, batch=batch))
        except FacekdError as error:
            raise GateError(f"batch {batch}: {error}") from error
        bounds = bounds_for(options.precision, scale=figures.scale, width=wanted.shape[1], min_cosine=gate.min_cosine)
        problem = violation(figures, bounds)
        if problem:
            where = _locate(reference, maker, options, embedder)
            raise GateError(f"batch {batch}, {len(images)} {_kind(reference)}: {problem}; {where}")
        worst = figures if worst is None else worst
    assert worst is not None
    return Parity(
        runtime=embedder.session.label,
        faces=len(reference.faces),
        source=reference.faces.source,
        bounds=bounds,
        batches=[int(batch) for batch in batches],
        **vars(worst),
    )


def judge_accuracy(accuracy: Accuracy, precision: str) -> None:
    """Refuses an accuracy drop past the bound, and for float artefacts a changed decision away from the threshold.

    Raises:
        GateError: with both figures and the bound.
    """
    drop = 100 * (accuracy.float_accuracy - accuracy.accuracy)
    if drop > accuracy.max_accuracy_drop + 1e-9:
        raise GateError(
            f"accuracy on {accuracy.dataset} falls from {100 * accuracy.float_accuracy:.2f} to "
            f"{100 * accuracy.accuracy:.2f} %, by {drop:.2f} points; the bound is {accuracy.max_accuracy_drop:g}"
        )
    rounding = ROUNDING_COS.get(precision)
    if rounding is not None and accuracy.changed_margin > rounding:
        raise GateError(
            f"{accuracy.changed} decisions on {accuracy.dataset} change, one {accuracy.changed_margin:.2g} from the "
            f"threshold in cosine; rounding explains up to {rounding:g}"
        )


def _locate(reference: Reference, maker: Target, options: ExportOptions, embedder: FileEmbedder) -> str:
    """The first diverging layer, or why it cannot be told."""
    face = reference.faces.images[:1]
    x = reference.network.input.normalise(torch.from_numpy(face))
    try:
        values = maker.trace(reference.network, options, embedder, face)
        return first_divergence(reference.network.module, x, values, precision=options.precision)
    # The artefact is refused either way; a runtime that cannot show its values must not hide why.
    except (FacekdError, RuntimeError, ValueError) as error:
        return f"the layer could not be found: {first_line(error)}"


def _kind(reference: Reference) -> Literal["real faces", "synthetic faces"]:
    return "synthetic faces" if "synthetic" in reference.faces.source else "real faces"
