"""`facekd embed`: embeddings of images, in a file."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from facekd.cli.evaluate import (
    BatchSize,
    Colour,
    Layout,
    Mean,
    Output,
    RuntimeName,
    Std,
    Threads,
    open_model,
)
from facekd.cli.output import JsonFlag, print_json, print_table, print_text
from facekd.common.errors import FacekdError, UsageError


def register(app: typer.Typer) -> None:
    """Attaches the verb."""
    app.command("embed")(embed)


def embed(
    model: Annotated[Path, typer.Argument(help="Bundle or artefact folder, or any .onnx or .tflite file.")],
    images: Annotated[
        list[Path], typer.Argument(help="Image files or folders: aligned crops, or photographs with --detector.")
    ],
    out: Annotated[Path, typer.Option(help="File to write: .npz, .csv or .jsonl.")],
    detector: Annotated[
        Path | None, typer.Option(help="YuNet .onnx file: detect and align faces in photographs.")
    ] = None,
    flip: Annotated[bool, typer.Option(help="Add the embedding of the mirrored image, as evaluation does.")] = True,
    raw: Annotated[bool, typer.Option("--raw", help="Do not L2-normalise the embeddings.")] = False,
    mean: Mean = None,
    std: Std = None,
    colour: Colour = None,
    layout: Layout = None,
    output: Output = None,
    runtime: RuntimeName = None,
    batch_size: BatchSize = 64,
    threads: Threads = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    json_output: JsonFlag = False,
) -> None:
    """Compute face embeddings. Images without a usable face are listed and skipped; exits 1 if none is left."""
    from facekd.data.detection import YuNet
    from facekd.evaluation.embed_files import WRITERS, embed_files, find_images

    if out.suffix not in WRITERS:
        raise UsageError(f"--out {out}: give a file that ends in {', '.join(WRITERS)}")
    if out.exists() and not overwrite:
        raise UsageError(f"{out} exists: choose another name, or overwrite it with --overwrite")
    paths, passed_over = find_images(images)
    embedder = open_model(
        model, mean=mean, std=std, colour=colour, layout=layout, output=output, threads=threads, runtime=runtime
    )
    result = embed_files(
        embedder,
        paths,
        detector=YuNet(detector) if detector else None,
        flip=flip,
        normalise=not raw,
        batch_size=batch_size,
        progress=sys.stderr.isatty(),
    )
    result.skipped.update(passed_over)
    if not result.paths:
        path, reason = next(iter(result.skipped.items()))
        raise FacekdError(f"none of {len(paths)} images could be embedded; the first, {path}: {reason}")
    WRITERS[out.suffix](out, result, overwrite=overwrite)
    if json_output:
        print_json(
            {
                "model": str(model),
                "out": str(out),
                "embedded": len(result.paths),
                "embedding_width": embedder.embedding_width,
                "flip": flip,
                "normalised": not raw,
                "skipped": {str(path): reason for path, reason in result.skipped.items()},
            }
        )
        return
    if result.skipped:
        print_table("skipped", ["image", "reason"], [[str(path), reason] for path, reason in result.skipped.items()])
    form = "raw" if raw else "normalised"
    print_text(f"{len(result.paths)} embeddings of {embedder.embedding_width} numbers, {form}: {out}")
