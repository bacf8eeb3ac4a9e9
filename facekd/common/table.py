"""A table, once: for the terminal, for Markdown, for JSON and for CSV.

Cells may come from anywhere (names of files, cards and records of strangers); each form escapes what would be read as
something else where it goes.
"""

import csv
import io
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TextIO

from facekd.common.markdown import markdown_text
from facekd.common.text import plain

Row = Sequence[Any]


@dataclass(frozen=True)
class Table:
    """Rows under headings.

    Attributes:
        columns: the headings.
        rows: a cell for each; None is empty.
        title: above it on the terminal.
        caption: below it on the terminal.
        left: the columns that hold words and stand at the left, by heading, or how many at the beginning; the others
            hold figures and stand at the right.
    """

    columns: Sequence[str]
    rows: Sequence[Row]
    title: str | None = None
    caption: str | None = None
    left: int | Collection[str] = 1

    def print(self, *, full_width: bool = False, file: TextIO | None = None) -> None:
        """Prints it on stdout.

        Title and caption are lines of their own, since a table would break a path in them to its own width.

        Args:
            full_width: as wide as it needs to be, whatever the terminal's width: many columns cut short say nothing.
        """
        import rich.table
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.text import Text

        table = rich.table.Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0)) if full_width else rich.table.Table()
        for index, column in enumerate(self.columns):
            justify: Literal["left", "right"] = "left" if self._is_left(index) else "right"
            table.add_column(Text(plain(column)), justify=justify, no_wrap=full_width)
        for row in self.rows:
            table.add_row(*(Text(plain(cell)) for cell in row))
        console = Console(file=file)
        if self.title is not None:
            console.print(Text(plain(self.title), style="bold"), soft_wrap=True)
        if full_width:
            needed = console.measure(table, options=console.options.update(width=500)).maximum
            Console(file=file, width=max(console.width, needed)).print(table)
        else:
            console.print(table)
        if self.caption is not None:
            console.print(Text(plain(self.caption, lines=True)), soft_wrap=True)

    def markdown(self) -> str:
        """A Markdown table with a line break at its end, figures at the right."""
        rules = ["---" if self._is_left(index) else "---:" for index in range(len(self.columns))]
        lines = [_line(map(markdown_text, self.columns)), f"|{'|'.join(rules)}|"]
        lines += [_line(map(markdown_text, row)) for row in self.rows]
        return "\n".join(lines) + "\n"

    def records(self) -> list[dict[str, Any]]:
        """A mapping of heading to cell for each row, for JSON."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def csv(self) -> str:
        """As CSV with a heading, safe to open in a spreadsheet."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(map(csv_cell, self.columns))
        writer.writerows(map(csv_cell, row) for row in self.rows)
        return text.getvalue()

    def _is_left(self, index: int) -> bool:
        return index < self.left if isinstance(self.left, int) else self.columns[index] in self.left


def csv_cell(cell: Any) -> Any:
    """A cell for CSV: text that a spreadsheet would run as a formula gets an apostrophe before it; numbers do not."""
    if not isinstance(cell, str):
        return cell
    cell = cell.replace("\r", "\\r")  # csv.writer leaves it unquoted, and no reader takes that
    if not cell.lstrip().startswith(("=", "+", "-", "@")):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
