"""`facekd demo`: the exported student in a page of one's own browser."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facekd.cli.output import JsonFlag, print_json
from facekd.common.errors import FacekdError, UsageError

if TYPE_CHECKING:
    from facekd.demo.site import FaceModel


def register(app: typer.Typer) -> None:
    """Attaches the verb."""
    app.command("demo")(demo)


def demo(
    model: Annotated[
        Path | None, typer.Option(help="Artefact of facekd export --target onnx (or android), or a foreign .onnx.")
    ] = None,
    detector: Annotated[Path | None, typer.Option(help="YuNet .onnx (or FACEKD_DETECTOR).")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 for any that is free.")] = 8765,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Download onnxruntime-web with npm, once; nothing else downloads it.")
    ] = False,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in the default browser.")] = False,
    json_output: JsonFlag = False,
) -> None:
    """Serve a page, on this machine only, that recognises faces in the browser: camera or picture, enrol, verify.

    The browser computes everything; pictures and embeddings stay in the page. Ctrl-C ends it.
    """
    from facekd.demo.runtime import PACKAGE, cache_folder, fetch_runtime, read_runtime

    folder = cache_folder()
    if fetch:
        fetch_runtime(folder)
        if model is None:
            if json_output:
                print_json({"package": PACKAGE, "folder": folder})
            else:
                print(f"{PACKAGE}: {folder}")
            return
    if model is None:
        raise UsageError("give --model: an artefact of facekd export --target onnx, or an .onnx file")
    if detector is None and "FACEKD_DETECTOR" in os.environ:
        detector = Path(os.environ["FACEKD_DETECTOR"])
    if detector is None:
        raise UsageError("give --detector (or FACEKD_DETECTOR): a YuNet .onnx (OpenCV zoo, face_detection_yunet)")

    from facekd.data.detection import YuNet
    from facekd.demo.server import DemoServer
    from facekd.demo.site import build_site

    face_model = open_face_model(model)
    runtime = read_runtime(folder)
    with DemoServer(build_site(face_model, YuNet(detector).path, runtime), port) as server:
        if json_output:
            print_json({"model": face_model.name, "url": server.url, "thresholds": face_model.thresholds})
        else:
            print(f"{face_model.name} is at {server.url} (this machine only; Ctrl-C ends it)")
            if not face_model.thresholds:
                print("It has no measured thresholds: the page shows similarities and names nobody.")
        sys.stdout.flush()
        if open_browser:
            typer.launch(server.url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


def open_face_model(path: Path) -> "FaceModel":
    """The model of an artefact (its folder, or its .onnx), or a foreign .onnx; run once, to be sure of it.

    Raises:
        UsageError: there is no such file, or it is of another runtime.
        FacekdError: damaged, or changed after it was exported.
    """
    from facekd.demo.site import FaceModel, Golden
    from facekd.evaluation.runners import open_artefact, open_onnx
    from facekd.schemas.manifest import read_manifest, verify_files

    if not path.exists():
        raise UsageError(f"--model {path}: there is no such file or folder")
    folder = path if path.is_dir() else path.parent
    if path.is_file() and not ((folder / "manifest.json").is_file() and read_manifest(folder).model == path.name):
        if path.suffix != ".onnx":
            raise UsageError(f"--model {path}: the browser runs .onnx files; facekd export --target onnx makes one")
        runner = open_onnx(path)
        return FaceModel(
            name=path.stem,
            precision="as given",
            file=path,
            input_spec=runner.input,
            layout=runner.layout,
            batch=runner.fixed_batch,
            dtype="float32",
            takes_pixels=False,
            embedding_width=runner.embedding_width,
            thresholds=[],
            golden=None,
        )
    manifest = read_manifest(folder)
    if not manifest.model.endswith(".onnx"):
        raise UsageError(f"{folder} is for {manifest.target}: the browser runs ONNX; facekd export --target onnx")
    verify_files(folder, manifest)
    runner = open_artefact(folder)
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
        input_spec=runner.input,
        layout=runner.layout,
        batch=runner.fixed_batch,
        dtype="uint8" if manifest.input.dtype == "uint8" else "float32",
        takes_pixels=manifest.input.preprocess == "in",
        embedding_width=runner.embedding_width,
        thresholds=manifest.thresholds,
        golden=golden,
    )
