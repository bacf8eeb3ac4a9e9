"""What every verb prints: a rich table for people, one JSON object for machines."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from facekd.common.printing import print_json

__all__ = ["JsonFlag", "print_json", "print_table"]

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], caption: str | None = None) -> None:
    """Prints a rich table on stdout: the first column left, the rest right.

    Title and caption are lines of their own, since a table would break a path in them to its own width; nothing is read
    as rich markup, since file names may hold brackets.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for index, column in enumerate(columns):
        table.add_column(Text(column), justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    console = Console()
    console.print(Text(title, style="bold"), soft_wrap=True)
    console.print(table)
    if caption is not None:
        console.print(Text(caption), soft_wrap=True)
