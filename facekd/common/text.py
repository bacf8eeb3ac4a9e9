"""Foreign text, made harmless for where it is shown."""

import unicodedata
from typing import Any


def plain(cell: Any, *, lines: bool = False) -> str:
    """A value as text that a terminal shows and does not obey: control characters are written out.

    Args:
        cell: anything; None is empty.
        lines: line breaks stay.
    """
    text = "" if cell is None else str(cell)
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if _is_shown(c) or (lines and c == "\n") else ascii(c)[1:-1] for c in text)


def plot_text(text: Any) -> str:
    """A value as text of a plot: as `plain`, and without matplotlib's mathematics, which a dollar sign begins."""
    return plain(text).replace("$", r"\$")


def encodable(text: str) -> str:
    r"""Text that UTF-8 can hold: the bytes of a name in another encoding, Python's surrogates, as \udcd5."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _is_shown(character: str) -> bool:
    # Cc: control; Cf: direction and joins, by which a name can be made to look like another; Cs: bytes of no encoding.
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp")
