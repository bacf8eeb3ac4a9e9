"""The report: what it selects by brute force, what the page holds, and the page in a browser."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from facekd.benchmarks.compare import PairedComparison
from facekd.benchmarks.report import build_report
from facekd.benchmarks.report.latency_plots import LABEL_PT, label_offsets
from facekd.benchmarks.report.markdown import results_section
from facekd.benchmarks.report.page import write_page
from facekd.benchmarks.report.select import history, latest, on_one_set, pareto_front
from facekd.common.errors import UsageError
from facekd.common.writing import WriteError
from facekd.schemas.record import Record

Make = Callable[..., Record]
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def test_pareto_front_is_what_nothing_beats() -> None:
    points = [(float(a), float(b)) for a, b in np.random.default_rng(0).integers(0, 12, (60, 2))]
    front = {points[i] for i in pareto_front(points)}
    by_definition = {p for p in points if not any(q != p and q[0] <= p[0] and q[1] >= p[1] for q in points)}
    assert front == by_definition


def test_latest_and_history(make_record: Make) -> None:
    records = [
        make_record(
            id=f"{day}", created=f"2026-01-0{day}T00:00:00+00:00", commit=commit, latency={"p50_ms": 10.0 - day}
        )
        for day, commit in ((1, "aa"), (2, "aa"), (4, "cc"), (3, "bb"))
    ]
    other = make_record(id="x", setup={"threads": 2}, latency={"p50_ms": 1.0})
    assert [r.id for r in latest([*records, other])] == ["x", "4"]
    (series,) = history([*records, other]).values()
    assert [r.id for r in series] == ["2", "3", "4"]  # one a commit, its newest, in time's order


def test_one_name_for_two_targets_files_hides_neither(make_record: Make) -> None:
    """The ONNX and the Android target's file of one bundle are for one runtime."""
    both = [make_record(id=target, model={"target": target}) for target in ("onnx", "android")]
    assert len(latest(both)) == 2


def test_accuracies_on_different_sets_are_not_plotted_together(make_record: Make) -> None:
    records = [make_record(id=i, accuracy={"fingerprint": name}) for i, name in zip("abcd", "xyyz", strict=True)]
    records.append(make_record(id="e", accuracy=None))
    assert [record.id for record in on_one_set(records)] == ["b", "c"]
    assert on_one_set([records[-1]]) == []


def test_figures_cover_no_point_and_no_other_figure() -> None:
    """40 points that lie close together, as the variants of one model do."""
    points = np.random.default_rng(0).uniform((0, 0), (60, 12), (40, 2))
    labelled = list(range(0, 40, 5))
    offsets = label_offsets(points, labelled)
    figures = [(points[i][0], points[i][1] + offset) for i, offset in zip(labelled, offsets, strict=True)]
    for n, (x, y) in enumerate(figures):
        for other_x, other_y in [*points, *figures[:n]]:
            assert abs(other_x - x) >= LABEL_PT or abs(other_y - y) >= LABEL_PT - 1e-9
    assert label_offsets(np.array([[0.0, 0.0], [50, 0]]), [0, 1]) == [LABEL_PT, LABEL_PT]


def test_the_table_for_documents(make_record: Make, comparison: PairedComparison) -> None:
    """A row a configuration, units in the headings, fewest threads first; the figures of a record stand in its row."""
    records = [
        make_record(id=f"{name}{threads}", model={"name": name}, setup={"threads": threads}, latency={"p50_ms": p50})
        for threads, name, p50 in ((2, "a", 1.0), (1, "b", 2.0), (1, "c", 1.5))
    ]
    text = results_section(records, [comparison], command="facekd benchmark report x")
    head, rule, *rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    head = [cell.strip() for cell in head]
    assert len({len(head), len(rule), *map(len, rows)}) == 1
    cells = [{name: cell.strip() for name, cell in zip(head, row, strict=True)} for row in rows]
    assert [(row["model"], row["threads"], row["p50 ms"]) for row in cells] == [
        ("c", "1", "1.50"),
        ("b", "1", "2.00"),
        ("a", "2", "1.00"),
    ]
    assert (cells[0]["model MiB"], cells[0]["accuracy %"], cells[0]["times limit"]) == ("30.0", "99.00", "1.50")
    assert "accuracy on lfw, 6000 pairs" in text and "- 300 GFLOP/s, threads 2, torch mm" in text
    assert "- interval_wide: " in text and f"- {comparison.verdict}; medians 2.00 and 8.40 ms, 1 thread, 12" in text
    assert text.endswith("\n    facekd benchmark report x\n")


def data_of(page: str) -> dict:  # type: ignore[type-arg]
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert found is not None
    return json.loads(found[1])


def test_report_stands_alone(tmp_path: Path, make_record: Make) -> None:
    name = "a </script><b>| net"
    records = [make_record(id="a", model={"name": name}), make_record(id="b", accuracy=None, operators=None)]
    files = {path.name for path in build_report(records, tmp_path / "report")}
    assert files == {"index.html", "report.md", "pareto.png", "percentiles.png", "operators.png"}
    page = (tmp_path / "report/index.html").read_text()
    assert not re.search(r"""(src|href|url|import)\s*[=(]\s*["']?\s*(https?:)?//""", page)
    data = data_of(page)
    names = [column["name"] for column in data["columns"]]
    assert {row[names.index("model")] for row in data["rows"]} == {name, "net fp32"}
    markdown = (tmp_path / "report/report.md").read_text()
    rows = [
        line for line in markdown.splitlines() if line.startswith(r"| a \</script>\<b>\| net")
    ]  # nothing of it is HTML
    assert len(rows) == 1 and "| 99.00 |" in rows[0]
    assert list(tmp_path.iterdir()) == [tmp_path / "report"]


def test_nothing_of_the_users_is_replaced(tmp_path: Path, make_record: Make) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/photo.png").touch()
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="mine"):
            build_report([make_record()], tmp_path / "mine", overwrite=overwrite)
    with pytest.raises(WriteError, match=r"cannot write a benchmark report at .*photo\.png/report: "):
        build_report([make_record()], tmp_path / "mine/photo.png/report")
    assert (tmp_path / "mine/photo.png").exists()


def test_ten_thousand_records_stay_a_few_megabytes(tmp_path: Path, make_record: Make) -> None:
    one = make_record()
    records = [
        one.model_copy(update={"id": str(i), "model": one.model.model_copy(update={"name": f"net {i % 5000}"})})
        for i in range(10_000)
    ]
    write_page(records, tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size < 8e6
    data = data_of((tmp_path / "page.html").read_text())
    assert (len(data["rows"]), len(data["newest"])) == (10_000, 5000)


def in_browser(page: Path, fragment: str = "", *, width: int = 1400) -> str:
    """The page's elements after its script has run."""
    command = [
        str(BROWSER),
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={page.parent / 'profile'}",
        f"--window-size={width},900",
        "--virtual-time-budget=3000",
        "--dump-dom",
        f"file://{page}{fragment}",
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=240).stdout


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here: the page's script is not run")
def test_the_page_in_a_browser(tmp_path: Path, make_record: Make, comparison: PairedComparison) -> None:
    """It loads, sorts by a number and backwards (as the link says), and draws every point and series."""
    times = [12.0, 3.0, 110.0, 7.5]
    records = [
        make_record(
            id=str(i),
            model={"name": f"net {i}"},
            commit=commit,
            created=f"2026-01-0{day}T00:00:00+00:00",
            latency={"p50_ms": time},
        )
        for i, time in enumerate(times)
        for day, commit in ((1, "aa"), (2, "bb"))
    ]
    write_page(records, tmp_path / "page.html", comparisons=[comparison])
    shown = in_browser(tmp_path / "page.html", "#sort=p50+ms,desc")
    body = shown[shown.index("<tbody>") : shown.index("</tbody>")]
    order = [re.sub("<[^>]+>", "", row) for row in re.findall(r"<td>(net \d)</td>", body)]
    assert order == [f"net {i}" for i in sorted(range(4), key=lambda i: -times[i])]
    assert 'aria-sort="descending"' in shown
    assert shown.count('class="point"') == 4
    assert f"<li>{comparison.verdict}; " in shown
    assert ">110.000</td>" in shown and ">110</td>" not in shown  # a column's figures have the same decimals
    assert "<th>batch</th>" not in shown and "; batch 1, " in shown  # one value for all: in the summary
    assert shown.count('class="name"') == 1  # all have one accuracy: the fastest alone is on the front
    assert shown.count('class="quantiles"') == 4
    assert shown.count('class="operator"') == 4
    assert shown.count('class="series"') == 4
    assert re.search(r"<section><h2>History", shown)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here: the page's script is not run")
def test_the_table_fits_and_a_colour_means_a_runtime(tmp_path: Path, make_record: Make) -> None:
    """At 1,400 pixels no column is cut off; where one is, a shadow says so; no empty panel; one colour a runtime."""
    flags = ["clock_dropped", "starved", "warm_up_unsettled", "interval_wide"]
    records = [
        make_record(
            id=f"{runtime}{i}",
            model={"name": f"celeba-urfm-apt-mobilefacenet-of-width-{i}-seed-0 bundle"},
            setup={"runtime": runtime, "threads": i + 1, "batch": i + 1},
            commit=f"1c60e855576c{i}",
            flags=flags,
        )
        for runtime in ("onnxruntime", "litert")
        for i in range(2)
    ]
    write_page(records, tmp_path / "page.html")
    wide, narrow = (in_browser(tmp_path / "page.html", width=width) for width in (1400, 700))
    assert 'class="scroll"' in wide and "scroll more" not in wide
    assert 'class="scroll more"' in narrow
    assert "<th>when</th>" not in wide and '"name":"when"' in wide  # in the data, shown with "all columns"
    assert re.search(r'<section hidden=""><h2>History', wide)
    data = data_of(wide)
    lines = re.findall(r'<path class="quantiles"[^>]*stroke="([^"]+)"[^>]*stroke-dasharray="([^"]*)"', wide)
    assert sorted(colour for colour, _ in lines) == sorted(list(data["colours"].values()) * 2)
    assert len(set(lines)) == 4  # models on one runtime differ by their dashes
    operators = set(re.findall(r'<rect class="operator"[^>]*fill="([^"]+)"', wide))
    assert operators and not operators & set(data["colours"].values())
