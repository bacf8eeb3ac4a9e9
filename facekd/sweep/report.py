"""What a sweep writes: compare.md for people, compare.csv with a line for each cell and set, pictures."""

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from facekd.common.markdown import markdown_text
from facekd.common.table import Table
from facekd.common.writing import atomic_file
from facekd.sweep.figures import gap_share, undistilled_accuracy
from facekd.sweep.result import SweepResult

_CSV = (
    "method",
    "student",
    "macs",
    "seed",
    "set",
    "accuracy",
    "auc",
    "tar_at_far",
    "share_of_gap_closed",
    "steps",
    "images",
    "ms_per_image",
    "recipe_hash",
    "finished",
    "machine",
)


_METHODS, _COST = "compare.png", "compare-cost.png"
_ALT = {_METHODS: "accuracy of each method", _COST: "accuracy against cost"}


def write_report(sweep: SweepResult, out: Path) -> None:
    """Writes compare.md, compare.csv and the pictures that the sweep has."""
    _write(out / "compare.csv", _csv(sweep).encode("utf-8", "backslashreplace"))
    names = picture_names(sweep)
    if names:
        from facekd.sweep.plot import draw, draw_cost

        for name in names:
            _write(out / name, (draw if name == _METHODS else draw_cost)(sweep))
    _write(out / "compare.md", _markdown(sweep, names).encode("utf-8", "backslashreplace"))


def picture_names(sweep: SweepResult) -> list[str]:
    """Where matplotlib is installed and a cell has finished: compare.png, and compare-cost.png if the networks differ
    in MACs.
    """
    if not sweep.finished or find_spec("matplotlib") is None:
        return []
    return [_METHODS, _COST] if sweep.costs_differ else [_METHODS]


def table_rows(sweep: SweepResult, on: str) -> tuple[list[str], list[list[str]]]:
    """(columns, rows) of the table on one set, as text."""
    columns = ["method", "student", "MMACs", "seeds", "accuracy", "std", "AUC", "gap closed", "std"]
    columns += ["ms/image", "images"]
    rows = []
    for one in sweep.summary(on):
        rows.append(
            [
                one.method,
                one.student,
                f"{sweep.macs(one.method, one.student) / 1e6:.0f}",
                str(len(one.seeds)),
                f"{one.accuracy_mean:.2%}",
                "" if one.accuracy_std is None else f"{one.accuracy_std:.2%}",
                f"{one.auc_mean:.4f}",
                "" if one.gap_mean is None else f"{one.gap_mean:z.0%}",
                "" if one.gap_std is None else f"{one.gap_std:.0%}",
                f"{one.ms_per_image:.1f}",
                f"{one.images:,.0f}",
            ]
        )
    if on in sweep.teacher_accuracy:
        rows.append(["the teacher", "", "", "", f"{sweep.teacher_accuracy[on]:.2%}", "", "", "100%", "", "", ""])
    for name, reached in sweep.other_teachers.items():
        rows.append([f"teacher {name}", "", "", "", f"{reached[on]:.2%}", "", "", "", "", "", ""])
    if not sweep.costs_differ:
        place = columns.index("MMACs")
        for row in (columns, *rows):
            del row[place]
    return columns, rows


def _markdown(sweep: SweepResult, pictures: Iterable[str]) -> str:
    grid = sweep.grid
    state = f"{len(sweep.finished)} of {len(sweep.cells)} cells finished"
    seeds = ", ".join(map(str, grid.seeds))
    lines = [
        f"# {markdown_text(grid.name)}",
        "",
        f"Budget of each cell: {grid.budget.describe()}. Seeds: {seeds}. {state}.",
        "",
    ]
    for machine in sorted({one.machine for one in sweep.finished}):
        lines.append(f"Ran on: {markdown_text(machine)}.")
    if sweep.finished:
        dates = sorted(one.finished[:10] for one in sweep.finished)
        lines += [f"Finished: {dates[0]}" + (f" to {dates[-1]}." if dates[-1] != dates[0] else "."), ""]
    for on in sweep.sets:
        heading = markdown_text(Path(on).name if Path(on).exists() else on)
        lines += [f"## {heading}", "", Table(*table_rows(sweep, on), left=2).markdown()]
    lines += [
        "Accuracy: mean over seeds of the 10-fold verification accuracy; std over seeds (n - 1). Gap closed: share of "
        "the errors between the undistilled student and the teacher that the method removes, "
        "(E_undistilled - E) / (E_undistilled - E_teacher). ms/image: wall time of training an image, evaluation not "
        "counted.",
        "",
    ]
    for name in pictures:
        lines += [f"![{_ALT[name]}]({name})", ""]
    columns = ("method", "student", "seed", "accuracy", "steps", "ms/image", "recipe")
    by_place = {(one.method, one.student, one.seed): one for one in sweep.finished}
    failed = {str(one.cell): one.reason for one in sweep.failures}
    rows: list[tuple[Any, ...]] = []
    for cell in sweep.cells:
        place = (cell.method, cell.student, cell.seed)
        done = by_place.get(place)
        if done is not None:
            accuracy = f"{done.accuracy[sweep.sets[0]]:.2%}"
            rows.append((*place, accuracy, done.steps, f"{done.ms_per_image:.1f}", done.recipe_hash[:12]))
        else:
            why = f"failed: {failed[str(cell)]}" if str(cell) in failed else "not run"
            rows.append((*place, why, None, None, None))
    lines += ["## Cells", "", Table(columns, rows, left=2).markdown()]
    return "\n".join(lines)


def _csv(sweep: SweepResult) -> str:
    rows = []
    for on in sweep.sets:
        for one in sweep.finished:
            start = undistilled_accuracy(sweep.finished, student=one.student, on=on, baseline=sweep.grid.baseline)
            share = gap_share(one.accuracy[on], undistilled=start, teacher=sweep.teacher_accuracy.get(on))
            figures = {
                **one.to_dict(),
                "set": on,
                "accuracy": one.accuracy[on],
                "auc": one.auc[on],
                "macs": sweep.macs(one.method, one.student),
                "tar_at_far": " ".join(f"{far}:{tar:.6f}" for far, tar in one.tar_at_far[on].items()),
                "share_of_gap_closed": "" if share is None else f"{share:.6f}",
            }
            rows.append([figures[column] for column in _CSV])
    return Table(_CSV, rows).csv()


def _write(path: Path, content: bytes) -> None:
    with atomic_file(path, overwrite=True) as file:
        file.write(content)
