"""What every verb prints: a rich table for people, one JSON object for machines."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from facekd.common.printing import print_json
from facekd.common.table import Table
from facekd.common.text import plain

__all__ = ["JsonFlag", "print_json", "print_table", "print_text"]

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]


def print_text(text: object) -> None:
    """Prints words that may hold a foreign name: control characters are written out, line breaks stay."""
    print(plain(text, lines=True))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], caption: str | None = None) -> None:
    """Prints a table on stdout: the first column left, the rest right; see facekd.common.table."""
    Table(columns, rows, title=title, caption=caption).print()
