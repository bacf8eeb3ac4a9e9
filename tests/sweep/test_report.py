"""The report of students that differ in cost: MACs in the tables, accuracy against cost as a picture."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facekd.sweep.figures import CellFigures
from facekd.sweep.grid import SweepCell, grid_cells, load_grid
from facekd.sweep.report import picture_names, table_rows, write_report
from facekd.sweep.result import SweepResult

ACCURACY = {"undistilled": 0.7, "urfm-apt": 0.8}


def phones(*students: str) -> SweepResult:
    """The shipped grid of students for phones with made figures for some of them, one seed."""
    grid, path = load_grid("celeba-phones")
    cells, sets = grid_cells(grid, beside=path.parent, teacher="teacher")
    (on,) = sets
    finished = [figures(cell, on) for cell in cells if cell.seed == 0 and (not students or cell.student in students)]
    return SweepResult(grid, cells, finished, [], sets, {on: 0.9})


def figures(cell: SweepCell, on: str) -> CellFigures:
    place = (cell.method, cell.student, cell.seed)
    return CellFigures(*place, {on: ACCURACY[cell.method]}, {on: 0.5}, {on: {}}, 1, 10, 2.0, "h", "2026-01-01", "here")


def test_students_of_different_cost_are_listed_and_drawn_with_it(tmp_path: Path) -> None:
    sweep = phones()
    columns, rows = table_rows(sweep, sweep.sets[0])
    place = columns.index("MMACs")
    students = [row for row in rows if row[columns.index("student")]]
    assert len(students) == 14
    for row in students:  # the figure in a name is its MMACs
        assert row[place] == row[columns.index("student")].split("-")[1]
    assert rows[-1][0] == "the teacher" and all(len(row) == len(columns) for row in rows)

    write_report(sweep, tmp_path)
    assert picture_names(sweep) == ["compare.png", "compare-cost.png"]
    for picture in map(tmp_path.joinpath, picture_names(sweep)):
        assert np.asarray(Image.open(picture).convert("L")).std() > 5  # something is drawn
        assert f"]({picture.name})" in (tmp_path / "compare.md").read_text(encoding="utf-8")
    with (tmp_path / "compare.csv").open(newline="", encoding="utf-8") as stream:
        for line in csv.DictReader(stream):
            assert round(int(line["macs"]) / 1e6) == int(line["student"].split("-")[1])


def test_students_of_one_cost_are_not(tmp_path: Path) -> None:
    sweep = phones("prelu-221", "relu6-221")
    assert "MMACs" not in table_rows(sweep, sweep.sets[0])[0]
    write_report(sweep, tmp_path)
    assert [picture.name for picture in tmp_path.glob("*.png")] == picture_names(sweep) == ["compare.png"]


@pytest.mark.parametrize("students", [1, 3, 7])
def test_panels_stay_within_a_page(students: int, tmp_path: Path) -> None:
    names = list(load_grid("celeba-phones")[0].students)[:students]
    write_report(phones(*names), tmp_path)
    assert Image.open(tmp_path / "compare.png").width <= 130 * 22


def test_students_of_one_family_differ_in_their_sizes_only() -> None:
    sweep = phones()
    families: dict[str, set[str]] = {}
    for student in sweep.grid.students:
        families.setdefault(sweep.family("undistilled", student), set()).add(student)
    relu = {"relu-51", "relu-101", "relu-221", "relu-438"}
    assert sorted(families.values(), key=len) == [{"prelu-221"}, {"relu6-221"}, {"hardswish-221"}, relu]
