"""Sections of a Markdown file that a command rewrites, and nothing else of it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facekd.common.errors import FacekdError
from facekd.common.markdown import markdown_text, replace_section


def test_a_section_is_replaced_and_the_rest_stays(tmp_path: Path) -> None:
    path = tmp_path / "results.md"
    path.write_text("# Mine\n\nbefore\n", encoding="utf-8")
    replace_section(path, "one", "first\n")
    replace_section(path, "two", "second\n")
    path.write_text(path.read_text() + "\nafter\n", encoding="utf-8")
    replace_section(path, "one", "third\n")
    text = path.read_text()
    assert text.startswith("# Mine\n\nbefore\n") and text.endswith("\nafter\n")
    assert "first" not in text and text.count("third") == text.count("second") == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["results.md"]


@given(marker=st.text(st.sampled_from("ab-> <!\n"), max_size=8))
def test_no_marker_ends_its_comment(tmp_path_factory: pytest.TempPathFactory, marker: str) -> None:
    path = tmp_path_factory.mktemp("results") / "results.md"
    for content in ("first\n", "second\n"):
        replace_section(path, f"export: {marker}", content)
    start, *_ = (line for line in path.read_text().splitlines() if line.startswith("<!--"))
    assert start.endswith(" -->") and "-->" not in start[:-3] and "--" not in start[4:-3]
    assert "first" not in path.read_text() and path.read_text().count("second") == 1


def test_text_of_a_section_is_no_marker(tmp_path: Path) -> None:
    path = tmp_path / "results.md"
    hostile = "<!-- end of one -->"
    for content in ("first", "second"):
        replace_section(path, "one", f"- {markdown_text(hostile)} {content}\n")
    assert path.read_text().count("end of one") == 2 and "first" not in path.read_text()


def test_a_section_without_its_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.md"
    path.write_text("<!-- one -->\ntext of mine\n", encoding="utf-8")
    with pytest.raises(FacekdError, match="end of one"):
        replace_section(path, "one", "new\n")
    assert path.read_text() == "<!-- one -->\ntext of mine\n"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(FacekdError, match="cannot read"):
        replace_section(path, "one", "new\n")
