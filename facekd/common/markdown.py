"""Text in Markdown: foreign strings that show as they are, and sections of a file that commands rewrite."""

import re
from pathlib import Path
from typing import Any

from facekd.common.errors import FacekdError
from facekd.common.text import plain
from facekd.common.writing import atomic_file

_MARKUP = re.compile(
    r"""
    [`*|~$]                           # code, emphasis, cells, strike-through, GitHub's formulas
    | \[ (?= \^ | [^\]]*\]\s*[(\[:] )  # links, their definitions, footnotes
    | ^\[ (?= [ xX]\] )               # a box to tick in a list
    | \\ (?=[!-/:-@\[-`{-~])          # a backslash that would escape something
    | < (?=[A-Za-z/!?])               # HTML, and links in angle brackets
    | & (?=[#A-Za-z])                 # character references
    | (?<![^\W_]) _ | _ (?![^\W_])    # emphasis: not an underscore within a word, which shows as it is
    | \# (?=\#*\s*$)                  # the end of a heading
    """,
    re.VERBOSE,
)


def markdown_text(text: Any, *, starts_line: bool = False) -> str:
    """Text as Markdown that shows it and nothing else: no HTML, link, emphasis, heading or further cell.

    Only what would be read as markup is escaped: names such as urfm_apt and paths stay as they are.

    Args:
        text: anything; None is empty. Control characters and line breaks are written out.
        starts_line: it will stand at the beginning of a line, where lists, quotes and headings begin.
    """
    escaped = _MARKUP.sub(lambda found: "\\" + found[0], plain(text).strip())
    if starts_line:
        escaped = re.sub(r"^([#>+=\-])", r"\\\1", escaped)
        escaped = re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", escaped)
    return escaped


def replace_section(path: Path, marker: str, markdown: str) -> None:
    """Puts `markdown` between the file's comments with this marker, or at its end; the file appears if need be.

    Args:
        path: the file; the rest of it stays as it is.
        marker: names the section; may hold a foreign name.
        markdown: with a line break at its end.

    Raises:
        FacekdError: the file has an opening marker without its end, or cannot be read or written.
    """
    marker = re.sub(r"-(?=-)|-(?=>)", "- ", plain(marker))  # it must not end the comment
    start, end = f"<!-- {marker} -->", f"<!-- end of {marker} -->"
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else "# Results\n"
    except (OSError, UnicodeDecodeError) as error:
        raise FacekdError(f"cannot read {path}: {error}") from None
    section = f"{start}\n{markdown}{end}"
    # A marker is a line of its own: within a line it is text of the section, such as a stranger's message.
    if opening := re.search(rf"^{re.escape(start)}$", text, re.MULTILINE):
        closing = re.search(rf"^{re.escape(end)}$", text[opening.end() :], re.MULTILINE)
        if closing is None:
            raise FacekdError(f"{path}: the marker {end!r} is missing; restore it or remove its opening one")
        text = text[: opening.start()] + section + text[opening.end() + closing.end() :]
    else:
        text = text.rstrip("\n") + f"\n\n{section}\n"
    with atomic_file(path, overwrite=True) as file:
        file.write(text.encode("utf-8", "backslashreplace"))
