"""`facekd calibrate`: thresholds for false accept rates, and for galleries, measured on faces with identities."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facekd.cli.evaluate import BatchSize, Colour, Layout, Mean, Output, RuntimeName, Std, Threads, open_model
from facekd.cli.labelled_faces import embed_faces, say_passed_over
from facekd.cli.output import JsonFlag, print_json, print_table, print_text
from facekd.common.errors import UsageError

if TYPE_CHECKING:
    from facekd.schemas.calibration import Calibration

Faces = Annotated[
    str | None, typer.Option(help="Aligned faces with identities: a .rec, a folder with one folder a person, ...")
]

SIZES = (1, 10, 100, 1_000, 10_000)
"""People enrolled, one sample each, for whom the table says which promise the faces support."""


def register(app: typer.Typer) -> None:
    """Attaches the verb."""
    app.command("calibrate")(calibrate)


def calibrate(
    model: Annotated[Path, typer.Argument(help="Bundle or artefact folder, or any .onnx or .tflite file.")],
    faces: Faces = None,
    save: Annotated[
        bool, typer.Option("--save", help="Store the thresholds in the bundle's card or the artefact's manifest.")
    ] = False,
    mean: Mean = None,
    std: Std = None,
    colour: Colour = None,
    layout: Layout = None,
    output: Output = None,
    runtime: RuntimeName = None,
    batch_size: BatchSize = 64,
    threads: Threads = None,
    json_output: JsonFlag = False,
) -> None:
    """Measure thresholds for false accept rates, down to the lowest that the faces support.

    Use people that the model was not trained on. A gallery of N samples that may name a stranger in 1 of 1,000 searches
    needs the threshold of a false accept rate of 1 / (1,000 N).
    """
    from facekd.evaluation.calibration import calibrate as measure
    from facekd.evaluation.thresholds import save_calibration
    from facekd.schemas.card import CARD_FILE
    from facekd.schemas.manifest import MANIFEST_FILE

    if faces is None:
        raise UsageError("give --faces SOURCE: aligned faces with identities, of people the model was not trained on")
    if save and not any((model / name).is_file() for name in (CARD_FILE, MANIFEST_FILE)):
        raise UsageError(f"--save writes into a bundle's or an artefact's folder: {model} is neither")
    embedder = open_model(
        model, mean=mean, std=std, colour=colour, layout=layout, output=output, threads=threads, runtime=runtime
    )
    found = embed_faces(embedder, faces, batch_size=batch_size)
    table = measure(found.embeddings, found.identities, faces=found.faces, fingerprint=found.fingerprint)
    written = save_calibration(model, table) if save else None
    if json_output:
        print_json(
            {
                "model": str(model),
                **table.model_dump(),
                "unreadable": found.unreadable,
                "left_out": found.left_out,
                "written": None if written is None else str(written),
            }
        )
        return
    print_calibration(table)
    say_passed_over(found)
    if written is not None:
        print_text(f"written into {written}")


def print_calibration(table: "Calibration") -> None:
    """The thresholds, a decade a row, and what they can promise to galleries."""
    from facekd.evaluation.verification import far_name

    decades = [entry for step, entry in enumerate(table.thresholds) if step % 10 == 0]
    if table.thresholds[-1] not in decades:
        decades.append(table.thresholds[-1])
    print_table(
        f"thresholds measured on {table.faces}",
        ["false accept rate", "threshold, cosine >", "95 % interval of the rate"],
        [[f"{e.far:.2g}", f"{e.threshold_cos:.4f}", f"{e.far_low:.2g} to {e.far_high:.2g}"] for e in decades],
        caption=f"{table.identities:,} people, {table.images:,} images, {table.impostor_pairs:,} pairs of two people. "
        f"{table.method}. The lowest rate that these faces support is {table.lowest_far:.2g}.",
    )
    promises = (1e-1, 1e-2, 1e-3)
    rows = []
    for size in SIZES:
        chosen = [table.threshold_for(promise / size) for promise in promises]
        rows.append(
            [f"{size:,}", *("not supported" if entry is None else f"{entry.threshold_cos:.4f}" for entry in chosen)]
        )
    print_table(
        "threshold for a gallery, so that at most this share of the searches of a stranger names somebody",
        ["samples enrolled", *(f"1 in {1 / promise:,.0f}" for promise in promises)],
        rows,
        caption=f"The threshold of a false accept rate of the share divided by the samples; not supported: below "
        f"{far_name(table.lowest_far)}.",
    )
