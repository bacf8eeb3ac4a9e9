"""Tables in four forms: whatever a cell holds, each form shows its text and obeys nothing in it."""

import csv
import html
import io
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from facekd.common.markdown import markdown_text
from facekd.common.table import Table, csv_cell
from facekd.common.text import plain

# An independent reading of Markdown: CommonMark with GitHub's tables and strike-through.
MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])
HOSTILE = [
    "<script>alert(1)</script>", "a|b", "**bold**", "[link](javascript:x)", "![i](http://x)", "`code`", "# heading",
    "- item", "1. item", "> quote", "~~gone~~", "a\nb", "\x1b[31mred\x1b[0m", "&lt;b&gt;", "<!-- x -->", "__init__",
    "\\*", "\\|", "a\\", "---", "===", "x #", "<http://x.y>", "\u202eevil", "\ud800", "[b]rich[/b]",
    "[a [b](c)](d)", "[a]: b", "[a][b]", "[^1]", "[a\\](b)",
]  # fmt: skip
TEXT = st.one_of(st.text(st.sampled_from("ab1_*`|\\<>[]()!#-+.&;~ \n\"'=/:$")), st.text(), st.sampled_from(HOSTILE))


def shown_by(markdown: str) -> list[list[str]]:
    """The texts of a rendered table's cells; fails if a cell holds an element."""
    rows = re.findall(r"<tr>(.*?)</tr>", MARKDOWN.render(markdown), re.DOTALL)
    cells = [re.findall(r"<t[hd](?: style=\"[^\"]*\")?>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]
    assert not any("<" in cell for row in cells for cell in row)
    return [[html.unescape(cell) for cell in row] for row in cells]


def squeezed(text: str) -> str:
    return plain(text).strip()


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4))
def test_markdown_shows_the_text_of_every_cell(rows: list[tuple[str, str]]) -> None:
    found = shown_by(Table(["name", "value"], rows).markdown())
    assert found == [["name", "value"], *([squeezed(cell) for cell in row] for row in rows)]


@given(TEXT)
def test_a_line_of_markdown_is_a_paragraph_of_its_text(text: str) -> None:
    if not squeezed(text):
        return
    rendered = MARKDOWN.render(markdown_text(text, starts_line=True))
    assert html.unescape(rendered) == f"<p>{squeezed(text)}</p>\n"
    heading = MARKDOWN.render(f"# {markdown_text(text)}")
    assert html.unescape(heading) == f"<h1>{squeezed(text)}</h1>\n"


@pytest.mark.parametrize(
    "name", ["urfm_apt", "cos_min", "runs/teacher_1/bundle", "a-b-c", "p50 ms", "C:\\models\\net", "x.rec", "12.5 %",
             "mobilefacenet (1.20M)", "-", "+3", "100 < 200", "A & B", "R,G,B",
             "blocks=[2, 4]", "[0.5, 1]"],
)  # fmt: skip
def test_ordinary_names_stay_as_they_are(name: str) -> None:
    assert markdown_text(name) == name


@given(st.lists(st.tuples(TEXT, st.one_of(TEXT, st.integers(), st.floats(allow_nan=False))), max_size=4))
def test_csv_comes_back_and_holds_no_formula(rows: list[tuple[str, object]]) -> None:
    text = Table(["name", "value"], rows).csv()
    assert text == "" or text.endswith("\n")
    heading, *found = csv.reader(io.StringIO(text))
    assert heading == ["name", "value"]
    for row, back in zip(rows, found, strict=True):
        for cell, given_back in zip(row, back, strict=True):
            text = str(cell).replace("\r", "\\r")
            assert given_back in (text, f"'{text}")
            if given_back.lstrip()[:1] in ("=", "+", "-", "@"):
                float(given_back)  # a number, and nothing that is computed


def test_figures_stay_figures_in_csv() -> None:
    assert [csv_cell(cell) for cell in ("-0.5", "+1e-3", -2, "=1+1", "@SUM(A1)", "-x")] == [
        *("-0.5", "+1e-3", -2),
        *("'=1+1", "'@SUM(A1)", "'-x"),
    ]


@given(st.lists(TEXT, min_size=1, max_size=3))
def test_a_terminal_obeys_no_cell(cells: list[str]) -> None:
    out = io.StringIO()
    Table(cells, [cells], title=cells[0], caption=cells[-1]).print(file=out, full_width=True)
    shown = out.getvalue()
    controls = {character for character in shown if unicodedata.category(character) in ("Cc", "Cf", "Cs")}
    assert controls <= {"\n"}


def test_brackets_are_no_markup_and_full_width_cuts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    long = "x" * 120
    out = io.StringIO()
    Table(["[b]name", "value"], [[f"[red]{long}", 1]], title=f"/a/{long}").print(file=out, full_width=True)
    shown = out.getvalue()
    assert f"[red]{long}" in shown and "[b]name" in shown and f"/a/{long}" in shown


def test_records_are_rows_by_heading() -> None:
    table = Table(["a", "b"], [[1, None], [2, "x"]])
    assert table.records() == [{"a": 1, "b": None}, {"a": 2, "b": "x"}]
    assert table.markdown() == "| a | b |\n|---|---:|\n| 1 |  |\n| 2 | x |\n"
    assert Table(["a", "b"], [], left={"b"}).markdown() == "| a | b |\n|---:|---|\n"
