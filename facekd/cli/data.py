"""`facekd data synth|pack|index|inspect|align`: generate, pack, index, inspect and align faces."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from facekd.cli.output import JsonFlag, print_json, print_table, print_text
from facekd.cli.pool import DaskAddress, Workers
from facekd.common.errors import Interrupted
from facekd.common.progress import track

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing output.")]
_SHOWN = 20

verbs = typer.Typer(no_args_is_help=True, help="Generate, pack, index, inspect and align faces.", rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Attaches `facekd data`."""
    app.add_typer(verbs, name="data")


@verbs.command()
def synth(
    out: Annotated[Path, typer.Argument(help="Folder (train.rec is written into it), or a file name ending in .rec.")],
    identities: Annotated[int, typer.Option(min=1, help="Number of people.")] = 64,
    images: Annotated[int, typer.Option(min=1, help="Images of each person.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Random seed; the same seed gives the same faces.")] = 0,
    first_identity: Annotated[int, typer.Option(min=0, help="Index of the first person.")] = 0,
    difficulty: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Difficulty, name=strength: variety, pose, light, expression, blur, noise, clutter."
        ),
    ] = None,
    folder: Annotated[
        bool, typer.Option("--folder", help="Write a folder of JPEG files instead of a .rec file.")
    ] = False,
    overwrite: Overwrite = False,
    json_output: JsonFlag = False,
) -> None:
    """Generate synthetic faces; needs no data and no download."""
    from facekd.data.packing import pack_records, write_folder
    from facekd.data.sources.synthetic import SyntheticSource

    text = f"identities={identities},images={images},seed={seed},first_identity={first_identity}"
    source = SyntheticSource.from_text(",".join([text, *(difficulty or [])]))
    write = write_folder if folder else pack_records
    with _nothing_kept(out):
        written = write(source, out, overwrite=overwrite, track=track)
    _print_written(written, json_output)


@verbs.command()
def pack(
    source: Annotated[str, typer.Argument(help="Folder with one subfolder per identity, or any other data source.")],
    out: Annotated[Path, typer.Argument(help="Folder (train.rec is written into it), or a file name ending in .rec.")],
    size: Annotated[int, typer.Option(min=1, help="Required width and height of every image, in pixels.")] = 112,
    workers: Workers = None,
    dask: DaskAddress = None,
    overwrite: Overwrite = False,
    json_output: JsonFlag = False,
) -> None:
    """Pack aligned faces into RecordIO (.rec, .idx, property), in the layout of InsightFace."""
    from facekd.common.parallel import open_pool
    from facekd.data.opening import open_source
    from facekd.data.packing import pack_records

    with _nothing_kept(out):
        opened = open_source(source, size=(size, size))
        with open_pool(workers, dask=dask, items=len(opened)) as pool:
            written = pack_records(opened, out, overwrite=overwrite, pool=pool, track=track)
    _print_written(written, json_output)


@verbs.command()
def index(
    records: Annotated[list[Path], typer.Argument(help="The .rec files, in order.")],
    out: Annotated[Path, typer.Option(help="Index to write: a folder whose name ends in .faces.")],
    root: Annotated[
        str | None,
        typer.Option(help="Where the files will be read from: a folder or s3://... Default: where they are now."),
    ] = None,
    size: Annotated[int, typer.Option(min=1, help="Required width and height of every image, in pixels.")] = 112,
    overwrite: Overwrite = False,
    json_output: JsonFlag = False,
) -> None:
    """Index many .rec files as one memory-mapped data set. A label must mean the same person in every file."""
    from facekd.data.index_writer import write_index

    with _nothing_kept(out):
        summary = write_index(records, out, root=root, size=(size, size), overwrite=overwrite, track=track)
    if json_output:
        print_json(summary)
        return
    print_table(
        str(out),
        ["", ""],
        [[key, f"{value:,}" if isinstance(value, int) else value] for key, value in summary.items() if key != "broken"],
    )
    for key, reason in summary["broken"][:_SHOWN]:
        print_text(f"left out: {key}: {reason}")


@verbs.command()
def inspect(
    source: Annotated[str, typer.Argument(help="A .rec file, a folder, or synthetic:identities=64,images=20,seed=0.")],
    sheet: Annotated[Path | None, typer.Option(help="Write a contact sheet (PNG) with one identity per row.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Do not decode the images.")] = False,
    workers: Workers = None,
    dask: DaskAddress = None,
    overwrite: Overwrite = False,
    json_output: JsonFlag = False,
) -> None:
    """Count images and identities, and list broken images."""
    from facekd.common.parallel import open_pool
    from facekd.data.opening import open_source
    from facekd.data.source_summary import inspect_source, write_sheet

    opened = open_source(source, size=None)
    with open_pool(1 if quick and dask is None else workers, dask=dask, items=len(opened)) as pool:
        summary = inspect_source(opened, decode=not quick, pool=pool, track=track)
    if sheet is not None:
        write_sheet(opened, sheet, overwrite=overwrite)
        summary["sheet"] = str(sheet)
    if json_output:
        print_json(summary)
        return
    spread = summary["images_per_identity"]
    sizes = summary["sizes"]
    rows: list[tuple[str, Any]] = [
        ("images", summary["images"]),
        ("identities", summary["identities"]),
        (
            "images per identity (min / median / max, mean)",
            f"{spread['min']:g} / {spread['median']:g} / {spread['max']:g}, mean {spread['mean']:.2f}",
        ),
        ("sizes", "not read (--quick)" if sizes is None else ", ".join(f"{n} of {size}" for size, n in sizes.items())),
        ("broken", len(summary["broken"])),
        ("index", summary["index_rebuilt"] or "good"),
        ("fingerprint", summary["fingerprint"][:16]),
    ]
    if sheet is not None:
        rows.append(("contact sheet", sheet))
    print_table(summary["name"], ("", "value"), rows)
    print_table("images per identity", ("images", "identities"), summary["histogram"])
    _print_broken(summary["broken"])


@verbs.command()
def align(
    photographs: Annotated[Path, typer.Argument(help="Folder of photographs, searched recursively.")],
    out: Annotated[Path, typer.Argument(help="Folder for the aligned faces, or a file name ending in .rec.")],
    detector: Annotated[Path, typer.Option(envvar="FACEKD_DETECTOR", help="YuNet (OpenCV zoo) or SCRFD .onnx file.")],
    size: Annotated[int, typer.Option(min=16, help="Width and height of an aligned face, in pixels.")] = 112,
    image_format: Annotated[str, typer.Option("--format", help="png or jpg (quality 95).")] = "png",
    score: Annotated[
        float | None, typer.Option(help="Minimum detection score of a face. Default: 0.6 for YuNet, 0.5 for SCRFD.")
    ] = None,
    workers: Workers = None,
    dask: DaskAddress = None,
    overwrite: Overwrite = False,
    json_output: JsonFlag = False,
) -> None:
    """Detect the face in every photograph and align it by five landmarks; list photographs without a face.

    What is aligned is kept in OUT.parts until the output is written: after Ctrl-C, a kill or a full disk, the same
    command goes on where it stopped.
    """
    from facekd.common.parallel import open_pool
    from facekd.data.align_folder import align_folder
    from facekd.runtimes.detectors import open_detector

    opened = open_detector(detector.absolute(), score_threshold=score)
    with _nothing_kept(out), open_pool(workers, dask=dask) as pool:
        report = align_folder(
            photographs,
            out,
            opened,
            size=size,
            image_format=image_format,
            overwrite=overwrite,
            pool=pool,
            track=track,
        )
    if json_output:
        print_json(report.as_dict())
        return
    print_table(
        f"aligned into {report.path}",
        ("photographs", "count"),
        [
            ("read", report.photographs),
            ("aligned", report.aligned),
            ("with several faces (most prominent taken)", len(report.several_faces)),
            ("no face found", len(report.not_found)),
            ("unreadable", len(report.unreadable)),
            ("skipped, not photographs", len(report.passed_over)),
            ("identities", report.identities),
        ],
        caption=f"all file names: {report.report}",
    )
    _print_broken([(key, "no face found") for key in report.not_found] + report.unreadable + report.passed_over)


@contextmanager
def _nothing_kept(out: Path) -> Iterator[None]:
    """Says after Ctrl-C what is at `out`: these commands write it whole or not at all."""
    try:
        yield
    except KeyboardInterrupt:
        kept = "is as it was before" if out.exists() else "was not made"
        raise Interrupted(f"interrupted: nothing was kept, {out} {kept}; the same command starts again") from None


def _print_written(result: dict[str, Any], json_output: bool) -> None:
    if json_output:
        print_json(result)
        return
    rows = [(name, result[name]) for name in ("images", "identities")] + [("left out", len(result["broken"]))]
    print_table(f"written to {result['path']}", ("", "count"), rows)
    _print_broken(result["broken"])


def _print_broken(broken: list[Any]) -> None:
    if not broken:
        return
    more = len(broken) - _SHOWN
    caption = f"and {more} more: --json lists all" if more > 0 else None
    print_table("left out", ("image", "why"), [tuple(row) for row in broken[:_SHOWN]], caption=caption)
