"""Opening whatever holds a face model: a bundle, an exported artefact, or a model file of somebody else's."""

import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from facekd.common.errors import FacekdError, UsageError
from facekd.common.file_kind import check_not_a_stand_in
from facekd.common.text import plain
from facekd.runtimes.base import OpenOptions, Session, get_runtime, model_suffixes, runtime_for
from facekd.runtimes.bounded import LIMIT_S, run_bounded
from facekd.runtimes.embedder import Embedder, FileEmbedder
from facekd.runtimes.encoding import InputEncoding, Layout
from facekd.runtimes.files import ModelFiles
from facekd.runtimes.metadata import with_metadata
from facekd.runtimes.normalised_inside import check_unit, spec_beside
from facekd.runtimes.outputs import choose_output
from facekd.schemas.card import CARD_FILE, read_card
from facekd.schemas.input_spec import InputSpec
from facekd.schemas.manifest import MANIFEST_FILE, ArtefactInput, Manifest, read_manifest

if TYPE_CHECKING:
    from facekd.models.embedder import ModelEmbedder

log = logging.getLogger(__name__)


def open_model(
    path: str | Path,
    *,
    input_spec: InputSpec | None = None,
    layout: Layout | None = None,
    output: str | None = None,
    threads: int | None = None,
    runtime: str | None = None,
) -> Embedder:
    """Opens whatever holds a face model.

    Args:
        path: a bundle folder (card.json), an exported artefact folder (manifest.json), or a model file that some
            runtime opens: .onnx, .tflite, ...
        input_spec: of a foreign file only; a bundle and an artefact state their own. Default RGB, (x - 127.5) / 127.5.
        layout: of a foreign file only, where its input's shape does not tell.
        output: of a foreign file only, the name of its embedding; default: see facekd.runtimes.outputs.
        threads: CPU threads; default: all.
        runtime: its name, or `package.module:Class`; default: the one that opens such files.

    Raises:
        UsageError: nothing there that holds a model, or a spec given for a model that states its own.
        FacekdError: the model is damaged or cannot be run.
    """
    path = Path(path)
    for marker in (CARD_FILE, MANIFEST_FILE):
        if not (path / marker).is_file():
            continue
        if input_spec is not None or layout is not None or output is not None:
            raise UsageError(
                f"{path} states its own input spec in {marker}: leave mean, std, colour, layout and output out"
            )
        if marker == MANIFEST_FILE:
            return open_artefact(path, threads=threads, runtime=runtime)
        return _open_bundle(path, threads, runtime)
    return open_file(path, input_spec=input_spec, layout=layout, output=output, threads=threads, runtime=runtime)


def open_file(
    path: Path,
    *,
    input_spec: InputSpec | None = None,
    layout: Layout | None = None,
    output: str | None = None,
    threads: int | None = None,
    runtime: str | None = None,
) -> FileEmbedder:
    """A model file without a manifest, as its own input and output show it; args as `open_model`."""
    valid = f"give a bundle or artefact folder, or a file of {', '.join(model_suffixes())}"
    if not path.exists():
        raise UsageError(f"model {path} does not exist: {valid}")
    if runtime is None and path.suffix.lower() not in model_suffixes():
        kind = (
            f"a folder without {CARD_FILE} or {MANIFEST_FILE}"
            if path.is_dir()
            else f"a {path.suffix or 'nameless'} file"
        )
        raise UsageError(f"model {path} is {kind}: {valid}")
    session = open_session(path, threads=threads, runtime=runtime)
    encoding = describe_input(session, input_spec=input_spec, layout=layout, output=output)
    embedder = FileEmbedder(session, encoding)
    for note in embedder.notes:
        log.warning("%s", plain(note))
    return embedder


def describe_input(
    session: Session,
    *,
    input_spec: InputSpec | None = None,
    layout: Layout | None = None,
    output: str | None = None,
) -> InputEncoding:
    """How images become the input of a foreign model, whose embedding is selected; args as `open_model`."""
    ends = session.runtime.ends(session.path)
    if input_spec is not None:
        check_unit(session.path, input_spec)
    input_spec, notes = with_metadata(session.path, input_spec, ends.stated)
    said: str | None = None
    if session.input.dtype in ("float32", "float16"):
        input_spec, said = spec_beside(session.path, ends, input_spec)
    encoding = InputEncoding.of_file(session.path, session.input, spec=input_spec, layout=layout)
    encoding = replace(encoding, notes=(*notes, *encoding.notes, *([said] if said is not None else [])))
    if output is None:
        chosen, note = choose_output(session.path, session.outputs, ends)
        encoding = replace(encoding, notes=(*encoding.notes, note)) if note else encoding
        output = chosen.name
    session.select(output)
    return encoding


def open_artefact(folder: Path, *, threads: int | None = None, runtime: str | None = None) -> FileEmbedder:
    """The model of an exported artefact, as its manifest describes it, after comparing it with its sha256.

    Raises:
        UsageError: there is no artefact, or it is for a runtime that is not here.
        FacekdError: the manifest or the model is damaged.
    """
    manifest = read_manifest(folder)
    model = folder / manifest.model
    if runtime is None and model.suffix.lower() not in model_suffixes():
        raise UsageError(
            f"{folder} is for {manifest.target} ({model.name}): what can be run here are files of "
            f"{', '.join(model_suffixes())}"
        )
    verify_model(folder, manifest)
    return open_stated(model, manifest.input, width=manifest.output.width, threads=threads, runtime=runtime)


def open_stated(
    model: Path,
    stated: ArtefactInput,
    *,
    width: int | None = None,
    threads: int | None = None,
    runtime: str | None = None,
) -> FileEmbedder:
    """A model file whose input is as a manifest states it.

    Args:
        model: the file.
        stated: its input.
        width: of its embedding; default: what the file declares.
        threads: see `open_model`.
        runtime: see `open_model`.
    """
    session = open_session(model, threads=threads, runtime=runtime)
    declared = math.prod(size or 1 for size in session.output.shape[1:])
    return FileEmbedder(session, InputEncoding.of_artefact(stated), embedding_width=width or declared)


def open_session(path: Path, *, threads: int | None = None, runtime: str | None = None) -> Session:
    """A model file or bundle in its runtime, ready to run arrays; args as `open_model`."""
    opener = runtime_for(path) if runtime is None else get_runtime(runtime)
    opener.require()
    options = OpenOptions(threads=threads)
    if opener.releases_python:
        session = run_bounded(lambda: opener.open(path, options), seconds=LIMIT_S, what=f"opening {path}")
    else:
        session = opener.open(path, options)
    session.threads = threads
    return session


def verify_model(folder: Path, manifest: Manifest) -> None:
    """Compares the files of an artefact's model with their hashes.

    Raises:
        FacekdError: one is missing, changed or not listed.
    """
    model = folder / manifest.model
    if not model.exists():
        raise FacekdError(f"{folder}: {manifest.model} is missing; export the bundle again")
    for name, digest in ModelFiles.of(model).hashes().items():
        stated = manifest.files.get((model.parent / name).relative_to(folder).as_posix())
        if digest != stated:
            check_not_a_stand_in(model.parent / name, "the model of an artefact", empty=False)
            why = "was changed after it was exported (its sha256 differs)" if stated else "is not in the manifest"
            raise FacekdError(f"{model.parent / name} {why}; export the bundle again")


def _open_bundle(path: Path, threads: int | None, runtime: str | None) -> "ModelEmbedder | FileEmbedder":
    """By torch itself, on the GPU where there is one, unless another runtime is named."""
    if runtime not in (None, "torch"):
        card = read_card(path)
        session = open_session(path, threads=threads, runtime=runtime)
        return FileEmbedder(session, InputEncoding(spec=card.input), embedding_width=card.embedding_width)
    import torch

    from facekd.models.bundle import load_bundle
    from facekd.models.embedder import ModelEmbedder

    if threads is not None:
        torch.set_num_threads(threads)
    bundle = load_bundle(path)
    return ModelEmbedder(bundle.model.to("cuda" if torch.cuda.is_available() else "cpu"), bundle.card.input)
