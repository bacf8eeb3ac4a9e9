"""What is benchmarked: an exported artefact, a folder of them, a bundle, or a foreign model file."""

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from facekd.common.errors import UsageError
from facekd.common.text import plain
from facekd.common.trust import names_code
from facekd.export.faces import synthetic_faces
from facekd.export.golden import read_golden
from facekd.export.logs import captured
from facekd.models.bundle import verify_bundle
from facekd.runtimes.base import get_runtime, list_runtimes, model_suffixes, runtime_for
from facekd.runtimes.embedder import Embedder
from facekd.runtimes.encoding import InputEncoding, Layout
from facekd.runtimes.files import ModelFiles
from facekd.runtimes.opening import open_file, open_model
from facekd.schemas.card import CARD_FILE
from facekd.schemas.input_spec import InputSpec
from facekd.schemas.manifest import MANIFEST_FILE, Manifest, read_manifest, verify_files
from facekd.schemas.record import ModelFacts

log = logging.getLogger(__name__)

FOREIGN = "foreign"
"""Target of a file that facekd did not export."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One model to measure.

    Attributes:
        facts: for the record.
        path: the model file, or the bundle's folder.
        folder: the artefact's or bundle's folder; the file itself for a foreign one.
        runtime: the name of the one that measures it.
        encoding: how images become its input.
        manifest: of an artefact.
        output: the name of its embedding; None for the only one.
        other_files: that belong to the model beside the file at `path`, such as an .onnx file's external data.
    """

    facts: ModelFacts
    path: Path
    folder: Path
    runtime: str
    encoding: InputEncoding
    manifest: Manifest | None = None
    output: str | None = None
    other_files: tuple[Path, ...] = ()

    def batch_problem(self, batch: int) -> str | None:
        """Why the model cannot take this batch, or None."""
        fixed = self.encoding.batch
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
        face = golden[0] if golden else _drawn_face(self.encoding.spec.size)
        return self.encoding.encode(np.repeat(face[None], batch, axis=0))

    def embedder(self, *, threads: int) -> Embedder:
        """The same file through the same runtime, as the evaluation takes a model."""
        if self.facts.target == FOREIGN:
            encoding = self.encoding
            return open_file(
                self.path,
                input_spec=encoding.spec,
                layout=encoding.layout,
                output=self.output,
                threads=threads,
                runtime=self.runtime,
            )
        return open_model(self.folder, threads=threads, runtime=self.runtime)


def find_subjects(
    paths: Sequence[Path],
    *,
    runtimes: Sequence[str] = (),
    input_spec: InputSpec | None = None,
    layout: Layout | None = None,
    output: str | None = None,
) -> list[Subject]:
    """Everything that `paths` hold, in order.

    Args:
        paths: artefact folders, folders of artefacts, bundle folders, model files.
        runtimes: keep only models of these runtimes (names, or `package.module:Class`); empty keeps all.
        input_spec: of the foreign files.
        layout: of the foreign files.
        output: of the foreign files, the name of the embedding.

    Raises:
        UsageError: a path holds no model, or none of them is for a runtime asked for.
    """
    timed = [runtime.name for runtime in list_runtimes() if runtime.timed]
    for runtime in runtimes:
        if runtime not in timed and not names_code(runtime):
            raise UsageError(f"--runtime {runtime}: valid are {', '.join(timed)}, or package.module:Class")
    with tempfile.TemporaryDirectory() as scratch, captured(Path(scratch) / "said.log"):  # what runtimes say at import
        found = _find(paths, runtimes, input_spec, layout, output)
    for subject in found:
        for note in subject.encoding.notes:
            log.warning("%s", plain(note))
    return found


def _find(
    paths: Sequence[Path],
    runtimes: Sequence[str],
    input_spec: InputSpec | None,
    layout: Layout | None,
    output: str | None,
) -> list[Subject]:
    found = [subject for path in paths for subject in _open(path, input_spec, layout, output, runtimes)]
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
    path: Path, spec: InputSpec | None, layout: Layout | None, output: str | None, runtimes: Sequence[str]
) -> list[Subject]:
    if (path / MANIFEST_FILE).is_file():
        return [_artefact(path, runtimes)]
    if (path / CARD_FILE).is_file():
        return [_bundle(path)]
    if not path.is_dir() or path.suffix.lower() in model_suffixes():
        return [_foreign(path, spec, layout, output, runtimes)]
    inside = sorted(child.parent for child in path.glob(f"*/{MANIFEST_FILE}"))
    if not inside:
        raise UsageError(
            f"{path} has no {MANIFEST_FILE} or {CARD_FILE}: give an artefact, a folder of artefacts, or a bundle"
        )
    artefacts = [_artefact(child, runtimes) for child in inside]
    # Of a folder of many, those that cannot run on this machine are no mistake of the caller, unless asked for.
    return [a for a in artefacts if a.runtime in runtimes or get_runtime(a.runtime).unusable() is None]


def _artefact(folder: Path, runtimes: Sequence[str]) -> Subject:
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    path = folder / manifest.model
    # The Android target's file is an .onnx beside the ONNX target's: two names, or one hides the other in a report.
    kind = " android" if manifest.target == "android" else ""
    return _subject(
        path,
        _runtime_of(path, runtimes),
        InputEncoding.of_artefact(manifest.input),
        name=f"{manifest.name} {manifest.precision}{kind}",
        target=manifest.target,
        precision=manifest.precision,
        bundle_sha256=manifest.bundle.sha256,
        folder=folder,
        manifest=manifest,
    )


def _bundle(folder: Path) -> Subject:
    card = verify_bundle(folder)
    encoding = InputEncoding(spec=card.input)
    name = f"{card.name} bundle"
    return _subject(folder, _runtime_of(folder, ()), encoding, name=name, target="bundle", bundle_sha256=card.sha256)


def _foreign(
    path: Path, spec: InputSpec | None, layout: Layout | None, output: str | None, runtimes: Sequence[str]
) -> Subject:
    runtime = _runtime_of(path, runtimes) if path.suffix.lower() in model_suffixes() or runtimes else None
    embedder = open_file(path, input_spec=spec, layout=layout, output=output, threads=1, runtime=runtime)
    name = runtime or embedder.session.runtime.name
    taken = embedder.session.output.name
    return _subject(path, name, embedder.encoding, name=path.stem, target=FOREIGN, output=taken)


def _subject(
    path: Path,
    runtime: str,
    encoding: InputEncoding,
    *,
    name: str,
    target: str,
    precision: str | None = None,
    bundle_sha256: str | None = None,
    folder: Path | None = None,
    manifest: Manifest | None = None,
    output: str | None = None,
) -> Subject:
    """The model at `path` with the facts that its runtime tells of it."""
    opener = get_runtime(runtime)
    files, facts = ModelFiles.of(path, runtime=opener), opener.facts(path)
    return Subject(
        facts=ModelFacts(
            name=name,
            file=files.files[0].name if target == "bundle" else path.name,
            sha256=files.sha256,
            target=target,
            precision=precision or facts.precision or "fp32",
            size_bytes=files.size_bytes,
            macs=facts.macs,
            bundle_sha256=bundle_sha256,
        ),
        path=path,
        folder=folder or path,
        runtime=runtime,
        encoding=encoding,
        manifest=manifest,
        output=output,
        other_files=tuple(file for file in files.files if file != path) if path.is_file() else (),
    )


def _runtime_of(path: Path, runtimes: Sequence[str]) -> str:
    """Of the runtimes asked for the first that opens such files, else the one whose milliseconds count."""
    asked = next((name for name in runtimes if get_runtime(name).opens(path)), None)
    return asked or runtime_for(path, timed=True).name


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
