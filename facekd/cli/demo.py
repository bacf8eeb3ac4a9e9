"""`facekd demo`: run an exported student in your browser."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from facekd.cli.evaluate import Colour, Layout, Mean, Output, Std
from facekd.cli.output import JsonFlag, print_json, print_text
from facekd.cli.parsing import parse_input_spec, parse_layout
from facekd.common.errors import UsageError


def register(app: typer.Typer) -> None:
    """Attaches the verb."""
    app.command("demo")(demo)


def demo(
    model: Annotated[
        Path | None, typer.Option(help="Artefact of facekd export --target onnx (or android), or any .onnx file.")
    ] = None,
    detector: Annotated[Path | None, typer.Option(help="YuNet .onnx file (or FACEKD_DETECTOR).")] = None,
    mean: Mean = None,
    std: Std = None,
    colour: Colour = None,
    layout: Layout = None,
    output: Output = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes any free port.")] = 8765,
    fetch: Annotated[bool, typer.Option("--fetch", help="Download onnxruntime-web with npm. Needed once.")] = False,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in the default browser.")] = False,
    json_output: JsonFlag = False,
) -> None:
    """Serve a page, to this machine only, that recognises faces in the browser: camera or image, enrol, verify.

    Everything is computed in the browser; images and embeddings do not leave the page. Stop it with Ctrl-C.
    """
    from facekd.demo.runtime import PACKAGE, cache_folder, fetch_runtime, read_runtime

    folder = cache_folder()
    if fetch:
        fetch_runtime(folder)
        if model is None:
            if json_output:
                print_json({"package": PACKAGE, "folder": folder})
            else:
                print_text(f"{PACKAGE}: {folder}")
            return
    if model is None:
        raise UsageError("give --model: an artefact of facekd export --target onnx, or an .onnx file")
    if detector is None and "FACEKD_DETECTOR" in os.environ:
        detector = Path(os.environ["FACEKD_DETECTOR"])
    if detector is None:
        raise UsageError("give --detector (or FACEKD_DETECTOR): a YuNet .onnx (OpenCV zoo, face_detection_yunet)")

    from facekd.data.detection import YuNet
    from facekd.demo.face_model import open_face_model
    from facekd.demo.server import DemoServer
    from facekd.demo.site import build_site

    face_model = open_face_model(
        model, input_spec=parse_input_spec(mean, std, colour), layout=parse_layout(layout), output=output
    )
    runtime = read_runtime(folder)
    with DemoServer(build_site(face_model, YuNet(detector).path, runtime), port) as server:
        if json_output:
            print_json({"model": face_model.name, "url": server.url, "thresholds": face_model.thresholds})
        else:
            print_text(f"{face_model.name} is at {server.url} (this machine only; stop with Ctrl-C)")
            if face_model.liveness is None:
                print_text(
                    "It has no liveness networks (facekd export --liveness): a photograph of somebody passes as them."
                )
            if not face_model.thresholds:
                print_text("It has no measured thresholds: the page shows similarities but no names.")
        sys.stdout.flush()
        if open_browser:
            typer.launch(server.url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
