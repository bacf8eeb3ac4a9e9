"""An artefact verified again, anywhere: its files' hashes, its golden embedding, the bundle if it is at hand."""

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from facekd.common.errors import FacekdError
from facekd.export import golden
from facekd.export.logs import captured
from facekd.export.parity import GateError, bounds_for, compare, violation
from facekd.runtimes.opening import open_artefact
from facekd.schemas.manifest import Manifest, read_manifest, verify_files


@dataclass(frozen=True)
class CheckReport:
    """What `check_artefact` found; a report exists only if everything passed.

    Attributes:
        runtime: what executed the artefact here.
        golden_cosine: of the golden crop's embedding computed here to the stored one.
        golden_difference: their largest absolute difference.
        faces: faces compared with the bundle (0 without one).
        cosine_min: of that comparison.
        max_abs_difference: of that comparison.
    """

    artefact: str
    target: str
    precision: str
    runtime: str
    files: int
    golden_cosine: float
    golden_difference: float
    faces: int = 0
    cosine_min: float | None = None
    max_abs_difference: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def check_artefact(folder: Path, *, bundle: Any = None, faces: np.ndarray | None = None) -> CheckReport:
    """Verifies an artefact again.

    Args:
        folder: the artefact.
        bundle: the bundle it was made from, to compare embeddings on `faces`.
        faces: uint8 RGB [n, 3, h, w], with `bundle`.

    Raises:
        UsageError: `folder` is not an artefact.
        FacekdError: a file was changed, the model cannot be opened, or a figure is out of bounds.
    """
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    with tempfile.TemporaryDirectory(prefix="facekd-") as scratch, captured(Path(scratch) / "check.log"):
        return _check(folder, manifest, bundle, faces)


def _check(folder: Path, manifest: Manifest, bundle: Any, faces: np.ndarray | None) -> CheckReport:
    embedder = open_artefact(folder, threads=1)
    runtime = embedder.session.label
    crop, stored, _ = golden.read_golden(folder, manifest)
    embedding = embedder.embed(crop[None])[0]
    if embedding.shape != stored.shape:
        raise FacekdError(f"{folder}: the model gives {len(embedding)} values, the golden embedding has {len(stored)}")
    found = golden.cosine(embedding, stored)
    if not found >= manifest.golden.min_cosine:
        raise GateError(
            f"{folder}: the golden crop's embedding has cosine {found:.6f} to the stored one on {runtime}, "
            f"below the bound {manifest.golden.min_cosine:g}: do not use this model here"
        )
    report = CheckReport(
        artefact=str(folder),
        target=manifest.target,
        precision=manifest.precision,
        runtime=runtime,
        files=len(manifest.files),
        golden_cosine=found,
        golden_difference=float(np.abs(embedding - stored).max()),
    )
    if bundle is None or faces is None:
        return report
    if bundle.card.sha256 != manifest.bundle.sha256:
        raise GateError(
            f"{folder} was made from {manifest.bundle.name} ({manifest.bundle.sha256[:12]}...), not from the bundle "
            f"{bundle.path} ({bundle.card.sha256[:12]}...)"
        )
    figures = compare(bundle.embed(torch.from_numpy(faces)).numpy(), embedder.embed(faces, batch=32))
    bounds = bounds_for(
        manifest.precision,
        scale=figures.scale,
        width=manifest.output.width,
        min_cosine=manifest.parity.bounds.get("cosine_min"),
    )
    problem = violation(figures, bounds)
    if problem:
        raise GateError(f"{folder}, {len(faces)} faces on {runtime}: {problem}")
    return CheckReport(
        **{
            **report.as_dict(),
            "faces": len(faces),
            "cosine_min": figures.cosine_min,
            "max_abs_difference": figures.max_abs_difference,
        }
    )
