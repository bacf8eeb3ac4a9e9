"""`facekd export`: convert a bundle to the formats of phones and verify it; inspect, check and tabulate artefacts."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from facekd.cli.default_command import DefaultCommandGroup
from facekd.cli.output import JsonFlag, print_json, print_table, print_text
from facekd.cli.parsing import split_list
from facekd.common.errors import FacekdError


class _ExportGroup(DefaultCommandGroup):
    default_command = "convert"


def register(app: typer.Typer) -> None:
    """Adds the verb to `app`."""
    export = typer.Typer(
        cls=_ExportGroup,
        help="Export a bundle (facekd export BUNDLE --target ... --out DIR); inspect, check or tabulate artefacts.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    export.command("convert", help="Export a bundle. The word convert is optional.")(convert)
    export.command("inspect")(inspect)
    export.command("check")(check)
    export.command("table")(table)
    app.add_typer(export, name="export")


def convert(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    out: Annotated[
        Path, typer.Option("--out", help="Artefact folder; with several targets or precisions, their parent folder.")
    ],
    target: Annotated[
        str, typer.Option("--target", help="onnx, coreml, tflite, executorch, android: comma-separated, or all.")
    ] = "onnx",
    precision: Annotated[
        str, typer.Option("--precision", help="fp32, fp16, int8, w8, palette (Core ML): comma-separated, or all.")
    ] = "fp32",
    calibration: Annotated[
        str | None, typer.Option("--calibration", help="Aligned faces to calibrate int8 on: a .rec file or a folder.")
    ] = None,
    calibration_faces: Annotated[int, typer.Option("--calibration-faces", help="Number of calibration faces.")] = 128,
    calibration_method: Annotated[
        str, typer.Option("--calibration-method", help="Method for activation ranges: minmax, percentile or entropy.")
    ] = "minmax",
    percentile: Annotated[float, typer.Option("--percentile", help="Percentile of the percentile method.")] = 99.99,
    keep_float: Annotated[
        str, typer.Option("--keep-float", help="int8: layers to keep in float: auto, none, or comma-separated names.")
    ] = "auto",
    pairs: Annotated[
        str | None,
        typer.Option("--pairs", help="Verification set: measures accuracy before and after, gives parity faces."),
    ] = None,
    faces: Annotated[int, typer.Option("--faces", help="Number of faces for the parity check.")] = 32,
    max_accuracy_drop: Annotated[
        float, typer.Option("--max-accuracy-drop", help="Largest allowed drop on --pairs, in percentage points.")
    ] = 0.3,
    min_cosine: Annotated[
        float | None,
        typer.Option("--min-cosine", help="Smallest allowed cosine between a quantised artefact and the bundle."),
    ] = None,
    batch: Annotated[str | None, typer.Option("--batch", help="Batch size, or dynamic (default for ONNX).")] = None,
    layout: Annotated[str | None, typer.Option("--layout", help="nchw or nhwc (default for TFLite).")] = None,
    preprocess: Annotated[
        str | None, typer.Option("--preprocess", help="Normalise inside the model (in) or in the caller (out).")
    ] = None,
    opset: Annotated[int, typer.Option("--opset", help="ONNX opset version.")] = 20,
    min_ios: Annotated[
        int | None,
        typer.Option("--min-ios", help="Core ML: 15, 16, 17, 18 or 26. Default: 15, or 16 for compressed weights."),
    ] = None,
    tensor_input: Annotated[
        bool, typer.Option("--tensor-input", help="Core ML: take a tensor instead of an image.")
    ] = False,
    palette_bits: Annotated[int, typer.Option("--palette-bits", help="Bits per palette entry: 1, 2, 4, 6 or 8.")] = 6,
    prelu: Annotated[
        str | None, typer.Option("--prelu", help="Form of PReLU (docs/export.md). Default: the fastest for the target.")
    ] = None,
    golden_crop: Annotated[
        Path | None, typer.Option("--golden-crop", help="Aligned face for the golden check. Default: a synthetic face.")
    ] = None,
    liveness: Annotated[
        list[Path] | None,
        typer.Option(
            "--liveness", help="Liveness network (.onnx) to put into the artefact; may be given several times."
        ),
    ] = None,
    liveness_threshold: Annotated[
        float | None, typer.Option("--liveness-threshold", help="Live above this mean probability. Default: 0.5.")
    ] = None,
    results: Annotated[
        Path | None, typer.Option("--results", help="Markdown file: write the table into its section for this bundle.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing artefacts.")] = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Keep the artefacts that an earlier run finished in --out; export the rest."),
    ] = False,
    json_output: JsonFlag = False,
) -> None:
    """Export a bundle and verify it in the target's runtime. If a check fails, no file is kept (exit code 1)."""
    from facekd.export.artefact_table import caption, cells_table, reasons, summary, write_results
    from facekd.export.matrix import failed
    from facekd.export.request import ExportRequest, run_request

    request = ExportRequest(
        bundle=bundle,
        out=out,
        targets=tuple(split_list(target)),
        precisions=tuple(split_list(precision)),
        calibration=calibration,
        calibration_faces=calibration_faces,
        calibration_method=calibration_method,
        percentile=percentile,
        keep_float=keep_float,
        pairs=pairs,
        faces=faces,
        max_accuracy_drop=max_accuracy_drop,
        min_cosine=min_cosine,
        batch=batch,
        layout=layout,
        preprocess=preprocess,
        opset=opset,
        min_ios=min_ios,
        tensor_input=tensor_input,
        palette_bits=palette_bits,
        prelu=prelu,
        golden_crop=golden_crop,
        liveness=tuple(liveness or ()),
        liveness_threshold=liveness_threshold,
        overwrite=overwrite,
        resume=resume,
    )
    name, cells = run_request(request)
    manifests = [cell.manifest for cell in cells if cell.manifest is not None]
    if results is not None:
        write_results(results, name, cells, command=shlex.join(["facekd", *sys.argv[1:]]))
    if json_output:
        print_json({"bundle": str(bundle), "name": name, "artefacts": [summary(cell) for cell in cells]})
    else:
        cells_table(cells, f"Export of {name}").print(full_width=True)
        print_text(caption(manifests))
        if merged := next((m.details["merged"] for m in manifests if "merged" in m.details), None):
            print_text(f"branches merged: {merged}")
        for reason in reasons(cells):
            print_text(reason)
        for cell in cells:
            if cell.manifest is not None:
                print_text(f"{cell.folder}: {cell.manifest.model}; log {cell.manifest.log}")
    if failed(cells):
        raise FacekdError(f"{len(failed(cells))} of {len(cells)} cells failed: {_cells(failed(cells))}")


def inspect(artefact: Annotated[Path, typer.Argument(help="Artefact folder.")], json_output: JsonFlag = False) -> None:
    """Show an artefact: input and output, verification, files."""
    from facekd.export.manifest_description import describe
    from facekd.schemas.manifest import read_manifest

    manifest = read_manifest(artefact)
    if json_output:
        print_json(manifest.model_dump(mode="json"))
        return
    for title, rows in describe(manifest):
        print_table(title, ["what", "value"], rows)


def check(
    artefact: Annotated[Path, typer.Argument(help="Artefact folder.")],
    bundle: Annotated[
        Path | None, typer.Option("--bundle", help="Bundle it was exported from: compare embeddings as well.")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", help="Aligned faces for --bundle. Default: synthetic faces.")
    ] = None,
    faces: Annotated[int, typer.Option("--faces", help="Number of faces for --bundle.")] = 32,
    json_output: JsonFlag = False,
) -> None:
    """Verify an artefact again: file hashes, golden embedding and, with --bundle, the bundle's embeddings."""
    from facekd.export.request import check_request

    report = check_request(artefact, bundle=bundle, source=source, faces=faces)
    if json_output:
        print_json({"passed": True, **report.as_dict()})
        return
    rows: list[tuple[str, Any]] = [
        ("files unchanged", report.files),
        ("runtime", report.runtime),
        ("golden cosine", f"{report.golden_cosine:.6f}"),
        ("golden max difference", f"{report.golden_difference:.1e}"),
    ]
    if report.faces:
        rows += [
            (f"cosine min to the bundle, {report.faces} faces", f"{report.cosine_min:.6f}"),
            ("max difference to the bundle", f"{report.max_abs_difference:.1e}"),
        ]
    print_table(f"{artefact}: passed", ["what", "value"], rows)


def table(
    artefacts: Annotated[list[Path], typer.Argument(help="Artefact folders, of one or several bundles.")],
    results: Annotated[
        Path | None, typer.Option("--results", help="Markdown file: write each bundle's table into its section.")
    ] = None,
    json_output: JsonFlag = False,
) -> None:
    """Show artefacts from several exports in one table, after checking their hashes."""
    from facekd.export.artefact_table import caption, cells_table, summary, write_results
    from facekd.export.matrix import finished_cells

    sections = finished_cells(artefacts)
    for name, cells in sections.items():
        if results is not None:
            write_results(results, name, cells, command=shlex.join(["facekd", *sys.argv[1:]]))
        if not json_output:
            cells_table(cells, f"Export of {name}").print(full_width=True)
            print_text(caption([cell.manifest for cell in cells if cell.manifest is not None]))
    if json_output:
        print_json({"sections": {name: [summary(cell) for cell in cells] for name, cells in sections.items()}})


def _cells(cells: list[Any]) -> str:
    return ", ".join(f"{cell.target} {cell.precision}" for cell in cells)
