"""The report: what it selects by brute force, what the page holds, and the page in a browser."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from facekd.benchmarks.record import Record
from facekd.benchmarks.report import build_report
from facekd.benchmarks.report.page import write_page
from facekd.benchmarks.report.select import history, latest, pareto_front
from facekd.errors import UsageError

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
    rows = [line for line in markdown.splitlines() if line.startswith("| a </script>")]
    assert len(rows) == 1 and "| 99.00 |" in rows[0]
    assert list(tmp_path.iterdir()) == [tmp_path / "report"]


def test_nothing_of_the_users_is_replaced(tmp_path: Path, make_record: Make) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/photo.png").touch()
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="mine"):
            build_report([make_record()], tmp_path / "mine", overwrite=overwrite)
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


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here: the page's script is not run")
def test_the_page_in_a_browser(tmp_path: Path, make_record: Make) -> None:
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
    write_page(records, tmp_path / "page.html")
    command = [
        str(BROWSER),
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=3000",
        "--dump-dom",
        f"file://{tmp_path / 'page.html'}#sort=p50+ms,desc",
    ]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240).stdout
    body = shown[shown.index("<tbody>") : shown.index("</tbody>")]
    order = [re.sub("<[^>]+>", "", row) for row in re.findall(r"<td>(net \d)</td>", body)]
    assert order == [f"net {i}" for i in sorted(range(4), key=lambda i: -times[i])]
    assert 'aria-sort="descending"' in shown
    assert shown.count('class="point"') == 4
    assert shown.count('class="name"') == 1  # all have one accuracy: the fastest alone is on the front
    assert shown.count('class="quantiles"') == 4
    assert shown.count('class="operator"') == 4
    assert shown.count('class="series"') == 4
