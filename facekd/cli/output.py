"""What every verb prints: a rich table for people, one JSON object for machines."""

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]


def print_json(data: Any) -> None:
    """Prints `data` as JSON on stdout; paths and NumPy scalars become strings and numbers."""

    def plain(value: Any) -> Any:
        if hasattr(value, "item"):
            return value.item()
        if hasattr(value, "model_dump"):
            return value.model_dump(mode="json")
        return str(value)

    print(json.dumps(data, indent=2, default=plain, allow_nan=False))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], caption: str | None = None) -> None:
    """Prints a rich table on stdout: the first column left, the rest right."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    Console().print(table)
