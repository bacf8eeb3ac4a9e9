"""A table, once: for the terminal, for Markdown, for JSON and for CSV.

Cells may come from anywhere (names of files, cards and records of strangers); each form escapes what would be read as
something else where it goes.
"""

import csv
import io
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TextIO

Row = Sequence[Any]


@dataclass(frozen=True)
class Table:
    """Rows under headings.

    Attributes:
        columns: the headings.
        rows: a cell for each; None is empty.
        title: above it on the terminal.
        caption: below it on the terminal.
        left: how many columns hold words and stand at the left; the others hold figures and stand at the right.
    """

    columns: Sequence[str]
    rows: Sequence[Row]
    title: str | None = None
    caption: str | None = None
    left: int = 1

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
            table.add_column(Text(column), justify="left" if index < self.left else "right", no_wrap=full_width)
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
        rules = ["---" if index < self.left else "---:" for index in range(len(self.columns))]
        lines = [_line(map(markdown_text, self.columns)), f"|{'|'.join(rules)}|"]
        lines += [_line(map(markdown_text, row)) for row in self.rows]
        return "\n".join(lines) + "\n"

    def records(self) -> list[dict[str, Any]]:
        """A mapping of heading to cell for each row, for JSON."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def csv(self) -> str:
        """As CSV with a heading."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(self.rows)
        return text.getvalue()


def plain(cell: Any, *, lines: bool = False) -> str:
    """A cell as text that a terminal shows and does not obey: control characters are written out.

    Args:
        lines: line breaks stay.
    """
    text = "" if cell is None else str(cell)
    return "".join(c if _is_shown(c) or (lines and c == "\n") else ascii(c)[1:-1] for c in text)


def markdown_text(cell: Any) -> str:
    """A cell as Markdown that shows its text and nothing else: no HTML, no heading, no further cell."""
    text = re.sub(r"([\\`*_\[\]|<>~])", r"\\\1", plain(cell))
    return re.sub(r"^([#+\-]|\d+[.)])(?=\s)", r"\\\1", text)


def _is_shown(character: str) -> bool:
    # Cc: control; Cf: direction and joins, by which a name can be made to look like another; Cs: bytes of no encoding.
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"
