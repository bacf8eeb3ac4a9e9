"""`facekd info`: show a bundle's card, after checking its files against it."""

from pathlib import Path
from typing import Annotated

import typer

from facekd.cli.output import JsonFlag, print_json, print_table, print_text


def register(app: typer.Typer) -> None:
    """Adds the verb to `app`."""
    app.command("info")(info)


def info(
    bundle: Annotated[Path, typer.Argument(help="A bundle folder.")],
    json_output: JsonFlag = False,
) -> None:
    """Show a bundle's card and verify that the weights match it."""
    from facekd.models.bundle_files import verified_by_note
    from facekd.models.readme import fact_rows, metric_rows, threshold_rows
    from facekd.schemas.card import WEIGHTS_FILE

    card = verified_by_note(bundle)
    if card is None:  # the model has to be built, which imports torch
        from facekd.models.bundle import verify_bundle

        card = verify_bundle(bundle)
    if json_output:
        print_json({"path": bundle, "verified": True, "card": card})
        return
    print_table(f"{card.name} (sha256 verified)", ["fact", "value"], fact_rows(card)[:-1])
    print_text(f"{WEIGHTS_FILE} sha256 {card.sha256}")  # whole, where a table would cut it to the terminal
    if card.metrics:
        print_table("Measured", ["data", "protocol", "figure", "value"], metric_rows(card))
    if card.thresholds:
        print_table("Thresholds", ["false accept rate", "cosine above", "measured on"], threshold_rows(card))
    if card.notes:
        print_text(f"\n{card.notes}")
