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
from facekd.cli.pool import DaskAddress, Workers
from facekd.common.errors import UsageError

_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Attaches the verb."""
    app.command("embed")(embed)


def embed(
    model: Annotated[Path, typer.Argument(help="Bundle or artefact folder, or any .onnx or .tflite file.")],
    images: Annotated[
        list[str],
        typer.Argument(
            help="Image files, folders of them, or any data source (.rec, .faces, synthetic:...): aligned crops, or "
            "photographs with --detector."
        ),
    ],
    out: Annotated[Path, typer.Option(help="File to write: .npz, .csv or .jsonl.")],
    detector: Annotated[
        Path | None, typer.Option(help="YuNet or SCRFD .onnx file: detect and align faces in photographs.")
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
    workers: Workers = None,
    dask: DaskAddress = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    json_output: JsonFlag = False,
) -> None:
    """Compute face embeddings. Images without a usable face are listed and skipped; exits 1 if none is left.

    Images are read and aligned in --workers processes while the model runs in this one, in its own --threads.

    What is computed is kept in OUT.parts until the file is written: after Ctrl-C, a kill or a full disk, the same
    command goes on where it stopped.
    """
    from facekd.common.hashing import file_sha256
    from facekd.common.parallel import open_pool
    from facekd.common.writing import check_free
    from facekd.evaluation.embed_files import embed_to_file
    from facekd.evaluation.embed_inputs import open_images
    from facekd.evaluation.embedding_files import WRITERS
    from facekd.evaluation.feature_cache import model_sha256
    from facekd.runtimes.detectors import open_detector

    if out.suffix not in WRITERS:
        raise UsageError(f"--out {out}: give a file that ends in {', '.join(WRITERS)}")
    check_free(out, overwrite=overwrite)
    embedder = open_model(
        model, mean=mean, std=std, colour=colour, layout=layout, output=output, threads=threads, runtime=runtime
    )
    opened = open_images(images, size=None if detector else embedder.input.size)
    find = open_detector(detector) if detector else None
    options = {"--output": output, "--runtime": runtime, "--layout": layout, "--threads": threads}
    with open_pool(workers, dask=dask, items=len(opened)) as pool:
        result = embed_to_file(
            embedder,
            opened,
            out,
            facts={
                "model": model_sha256(model, runtime=runtime),
                "--detector": file_sha256(detector) if detector else "none",
                **{name: str(value) for name, value in options.items()},
            },
            detector=find,
            flip=flip,
            normalise=not raw,
            batch_size=batch_size,
            overwrite=overwrite,
            pool=pool,
            progress=sys.stderr.isatty(),
        )
    if json_output:
        print_json(
            {
                "model": str(model),
                "out": str(out),
                "embedded": result.embedded,
                "computed_before": result.before,
                "embedding_width": embedder.embedding_width,
                "flip": flip,
                "normalised": not raw,
                "skipped": dict(result.skipped),
            }
        )
        return
    if result.skipped:
        more = len(result.skipped) - _SHOWN
        caption = f"and {more:,} more: --json lists all" if more > 0 else None
        rows = [list(one) for one in result.skipped[:_SHOWN]]
        print_table(f"skipped: {len(result.skipped):,}", ["image", "reason"], rows, caption=caption)
    form = "raw" if raw else "normalised"
    print_text(f"{result.embedded:,} embeddings of {embedder.embedding_width} numbers, {form}: {out}")
