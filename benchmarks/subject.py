"""What is benchmarked: an exported artefact, a folder of them, a bundle, or a foreign .onnx or .tflite."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from facekd.benchmarks.model_file import inspect_file
from facekd.benchmarks.runtimes import RUNTIMES, get_runtime
from facekd.common.errors import UsageError
from facekd.common.hashing import file_sha256, text_sha256
from facekd.evaluation.embedding import Embedder, open_embedder
from facekd.evaluation.runners import FileRunner
from facekd.export.faces import synthetic_faces
from facekd.export.golden import read_golden
from facekd.export.logs import captured
from facekd.export.network import feed
from facekd.schemas.input_spec import InputSpec
from facekd.schemas.manifest import MANIFEST_FILE, Manifest, read_manifest, size_of, verify_files
from facekd.schemas.record import ModelFacts

if TYPE_CHECKING:
    from facekd.schemas.card import Card


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One model to measure.

    Attributes:
        facts: for the record.
        path: the model file, or the bundle's folder.
        folder: the artefact's or bundle's folder; the file itself for a foreign one.
        runtime: the one that its format is for.
        manifest: of an artefact.
        input_spec: normalisation.
        foreign: the opened foreign file, which knows its own layout.
    """

    facts: ModelFacts
    path: Path
    folder: Path
    runtime: str
    input_spec: InputSpec
    manifest: Manifest | None = None
    foreign: FileRunner | None = field(default=None, compare=False)

    def batch_problem(self, batch: int) -> str | None:
        """Why the model cannot take this batch, or None."""
        fixed = self.manifest.input.batch if self.manifest else self.foreign.fixed_batch if self.foreign else None
        return f"{self.facts.name} takes batch {fixed} only" if fixed is not None and fixed != batch else None

    def golden(self) -> tuple[np.ndarray, np.ndarray] | None:
        """(crop uint8 RGB [3, h, w], the exporting machine's embedding [e]) of an artefact."""
        if self.manifest is None:
            return None
        crop, embedding, _ = read_golden(self.folder, self.manifest)
        return crop, embedding

    def make_input(self, batch: int) -> np.ndarray:
        """The array the file takes: the golden crop of an artefact, else a drawn face, `batch` times."""
        golden = self.golden()
        face = golden[0] if golden else _drawn_face(self.input_spec.size)
        images = np.ascontiguousarray(np.repeat(face[None], batch, axis=0))
        if self.manifest is not None:
            return feed(images, self.manifest.input)
        if self.foreign is not None:
            return self.foreign._prepare(torch.from_numpy(images))  # what it would feed itself, without running it
        return self.input_spec.normalise(torch.from_numpy(images)).numpy()

    def embedder(self, *, threads: int) -> Embedder:
        """The same file through the same runtime, as the evaluation takes a model."""
        if self.manifest is None:
            return open_embedder(self.folder, threads=threads) if self.foreign is None else self.foreign
        from facekd.export.measure import RunnerEmbedder
        from facekd.export.targets.base import get_target

        target = get_target(self.manifest.target)
        target.require()
        runner = target.open(self.path, self.manifest.input, threads=threads)
        return RunnerEmbedder(runner, self.manifest.input, self.manifest.output.width)


def find_subjects(
    paths: Sequence[Path],
    *,
    runtimes: Sequence[str] = (),
    input_spec: InputSpec | None = None,
    layout: Literal["NCHW", "NHWC"] | None = None,
) -> list[Subject]:
    """Everything that `paths` hold, in order.

    Args:
        paths: artefact folders, folders of artefacts, bundle folders, .onnx and .tflite files.
        runtimes: keep only models of these runtimes; empty keeps all.
        input_spec: of the foreign files.
        layout: of the foreign files.

    Raises:
        UsageError: a path holds no model, or none of them is for a runtime asked for.
    """
    for runtime in runtimes:
        if runtime not in RUNTIMES:
            raise UsageError(f"--runtime {runtime}: valid are {', '.join(RUNTIMES)}")
    with tempfile.TemporaryDirectory() as scratch, captured(Path(scratch) / "said.log"):  # what runtimes say at import
        return _find(paths, runtimes, input_spec, layout)


def _find(
    paths: Sequence[Path],
    runtimes: Sequence[str],
    input_spec: InputSpec | None,
    layout: Literal["NCHW", "NHWC"] | None,
) -> list[Subject]:
    found = [subject for path in paths for subject in _open(path, input_spec, layout, runtimes)]
    kept = [subject for subject in found if not runtimes or subject.runtime in runtimes]
    if not kept:
        there = ", ".join(sorted({subject.runtime for subject in found}))
        raise UsageError(f"--runtime {','.join(runtimes)}: the models given are for {there}; name one of these")
    for subject in kept:
        get_runtime(subject.runtime).require()
    return _told_apart(_with_macs(kept))


def _drawn_face(size: tuple[int, int]) -> np.ndarray:
    """uint8 RGB [3, h, w]: a drawn face, resized where a foreign model takes another size than 112x112."""
    import cv2

    face = synthetic_faces(1, (112, 112)).images[0].transpose(1, 2, 0)
    return np.ascontiguousarray(cv2.resize(face, size[::-1]).transpose(2, 0, 1))


def _open(
    path: Path, spec: InputSpec | None, layout: Literal["NCHW", "NHWC"] | None, runtimes: Sequence[str]
) -> list[Subject]:
    if not path.exists():
        raise UsageError(f"{path} does not exist: give an artefact or bundle folder, or an .onnx or .tflite file")
    if path.is_file():
        if path.suffix not in (".onnx", ".tflite"):
            raise UsageError(
                f"{path}: a foreign file is an .onnx or a .tflite; for anything else give the artefact's folder"
            )
        return [_foreign(path, spec, layout)]
    if (path / MANIFEST_FILE).is_file():
        return [_artefact(path)]
    if (path / "card.json").is_file():
        return [_bundle(path)]
    inside = sorted(child.parent for child in path.glob(f"*/{MANIFEST_FILE}"))
    if not inside:
        raise UsageError(
            f"{path} has no {MANIFEST_FILE} or card.json: give an artefact, a folder of artefacts, or a bundle"
        )
    artefacts = [_artefact(child) for child in inside]
    # Of a folder of many, those that cannot run on this machine are no mistake of the caller, unless asked for.
    return [a for a in artefacts if a.runtime != "coreml" or "coreml" in runtimes or _is_mac()]


def _artefact(folder: Path) -> Subject:
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    path = folder / manifest.model
    macs, _ = inspect_file(path)
    if path.is_file():
        sha256 = manifest.files[manifest.model]
    else:  # an .mlpackage: the hash of its files' hashes
        parts = [
            f"{name} {digest}" for name, digest in sorted(manifest.files.items()) if name.startswith(manifest.model)
        ]
        sha256 = text_sha256("\n".join(parts))
    # The Android target's file is an .onnx beside the ONNX target's: two names, or one hides the other in a report.
    kind = " android" if manifest.target == "android" else ""
    return Subject(
        facts=ModelFacts(
            name=f"{manifest.name} {manifest.precision}{kind}",
            file=path.name,
            sha256=sha256,
            target=manifest.target,
            precision=manifest.precision,
            size_bytes=manifest.size_bytes,
            macs=macs,
            bundle_sha256=manifest.bundle.sha256,
        ),
        path=path,
        folder=folder,
        runtime=_runtime_of(path),
        input_spec=manifest.input.spec,
        manifest=manifest,
    )


def _bundle(folder: Path) -> Subject:
    from facekd.models.bundle import verify_bundle
    from facekd.schemas.card import WEIGHTS_FILE, read_card

    card: Card = read_card(folder)
    verify_bundle(folder)
    weights = folder / WEIGHTS_FILE
    sha256 = card.sha256 or file_sha256(weights)
    return Subject(
        facts=ModelFacts(
            name=f"{card.name} bundle",
            file=weights.name,
            sha256=sha256,
            target="bundle",
            precision="fp32",
            size_bytes=size_of(weights),
            macs=card.macs,
            bundle_sha256=sha256,
        ),
        path=folder,
        folder=folder,
        runtime="torch",
        input_spec=card.input,
    )


def _foreign(path: Path, spec: InputSpec | None, layout: Literal["NCHW", "NHWC"] | None) -> Subject:
    runner: Any = open_embedder(path, input_spec=spec, layout=layout, threads=1)
    macs, precision = inspect_file(path)
    return Subject(
        facts=ModelFacts(
            name=path.stem,
            file=path.name,
            sha256=file_sha256(path),
            target="foreign",
            precision=precision or "fp32",
            size_bytes=size_of(path),
            macs=macs,
        ),
        path=path,
        folder=path,
        runtime=_runtime_of(path),
        input_spec=runner.input,
        foreign=runner,
    )


def _runtime_of(path: Path) -> str:
    return {".onnx": "onnxruntime", ".tflite": "litert", ".pte": "executorch", ".mlpackage": "coreml"}[path.suffix]


def _with_macs(subjects: list[Subject]) -> list[Subject]:
    """A .pte cannot be read for its MACs: another artefact of the same bundle has as many."""
    known: dict[str | None, int | None] = {
        s.facts.bundle_sha256: s.facts.macs for s in subjects if s.facts.bundle_sha256 and s.facts.macs
    }
    return [
        replace(s, facts=s.facts.model_copy(update={"macs": s.facts.macs or known.get(s.facts.bundle_sha256)}))
        for s in subjects
    ]


def _told_apart(subjects: list[Subject]) -> list[Subject]:
    """Of different models with one name for one runtime, each gets its folder's name: x/model.onnx and y/model.onnx."""
    named: dict[tuple[str, str], set[str]] = {}
    for s in subjects:
        named.setdefault((s.facts.name, s.runtime), set()).add(s.facts.sha256)
    return [
        replace(s, facts=s.facts.model_copy(update={"name": f"{s.folder.resolve().parent.name}/{s.facts.name}"}))
        if len(named[s.facts.name, s.runtime]) > 1
        else s
        for s in subjects
    ]


def _is_mac() -> bool:
    import sys

    return sys.platform == "darwin"
