"""`facekd evaluate --gallery`: how often a stranger is named, at thresholds that promise a rate to a gallery."""

from pathlib import Path
from typing import TYPE_CHECKING

from facekd.cli.labelled_faces import embed_faces, say_passed_over
from facekd.cli.output import print_json, print_table, print_text
from facekd.cli.parsing import parse_counts, split_list
from facekd.common.errors import UsageError

if TYPE_CHECKING:
    from facekd.evaluation.gallery import GalleryRate
    from facekd.runtimes.embedder import Embedder


def evaluate_galleries(
    model: Path,
    embedder: "Embedder",
    faces: str,
    *,
    sizes: str,
    promises: str,
    batch_size: int,
    json_output: bool,
) -> None:
    """Measures and prints. A model without a calibration of its own is calibrated on half of the people and measured
    on the other half.

    Args:
        model: see evaluate.
        embedder: the model, opened.
        faces: the source.
        sizes, promises: comma-separated.
        batch_size: images a batch.
        json_output: one JSON object in place of the table.
    """
    from facekd.evaluation.calibration import calibrate
    from facekd.evaluation.gallery import measure_galleries, split_people
    from facekd.evaluation.thresholds import read_calibration

    people, rates = parse_counts("--gallery", sizes), _parse_rates(promises)
    table = read_calibration(model)
    found = embed_faces(embedder, faces, batch_size=batch_size)
    embeddings, identities = found.embeddings, found.identities
    if table is None:
        first, second = split_people(identities)
        table = calibrate(
            *found.rows(first), faces=f"half of the people of {found.faces}", fingerprint=found.fingerprint
        )
        embeddings, identities = found.rows(second)
        where = f"{table.faces}, measured on the other half"
    elif table.fingerprint == found.fingerprint:
        raise UsageError(
            f"{model} was calibrated on {faces} itself, where its promise holds by construction: give other people"
        )
    else:
        where = f"{table.faces}, measured on {found.faces}"
    measured = measure_galleries(embeddings, identities, table, sizes=people, promises=rates)
    if json_output:
        print_json(
            {
                "model": str(model),
                "calibrated_on": table.faces,
                "lowest_far": table.lowest_far,
                "rates": [rate.to_dict() for rate in measured],
                "unreadable": found.unreadable,
                "left_out": found.left_out,
            }
        )
        return
    print_table(
        f"{model}: strangers before a gallery",
        [
            "people",
            "promised",
            "threshold, cosine >",
            "promise's interval",
            "strangers named",
            "its interval",
            "found, %",
        ],
        [_row(rate) for rate in measured],
        caption=f"Thresholds from {where}. One sample a person; a stranger is named when any sample scores above the "
        "cosine; found: comparisons of two images of an enrolled person above it.",
    )
    if lacking := [rate for rate in measured if rate.threshold_cos is None]:
        print_text(
            f"{len(lacking)} of {len(measured)} promises are not supported: they need a false accept rate of "
            f"{min(rate.far for rate in lacking):.1g}, and {table.faces} supports {table.lowest_far:.1g} at best: "
            "calibrate on more people"
        )
    say_passed_over(found)


def _row(rate: "GalleryRate") -> list[str]:
    start = [f"{rate.people:,}", f"{rate.promised:.3g}"]
    if rate.threshold_cos is None or rate.fpir is None:
        return [*start, "not supported", "", "", "", ""]
    return [
        *start,
        f"{rate.threshold_cos:.4f}",
        f"{rate.promised_low:.2g} to {rate.promised_high:.2g}",
        f"{rate.fpir:.2g}",
        "" if rate.fpir_low is None else f"{rate.fpir_low:.2g} to {rate.fpir_high:.2g}",
        "" if rate.found is None else f"{100 * rate.found:.1f}",
    ]


def _parse_rates(text: str) -> list[float]:
    try:
        rates = [float(part) for part in split_list(text)]
    except ValueError:
        rates = []
    if not rates or any(not 0 < rate < 1 for rate in rates):
        raise UsageError(f"--fpir {text}: give rates between 0 and 1, comma-separated, such as 1e-2,1e-3")
    return rates
