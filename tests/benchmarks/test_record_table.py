"""The tables of `facekd benchmark` on a narrow terminal: nothing is cut, and what has no room is named."""

from collections.abc import Callable
from pathlib import Path

import pytest

from facekd.benchmarks.record_table import COLUMNS, GIVE_WAY, TERMINAL, fit_terminal
from facekd.cli.record_output import _print
from facekd.schemas.record import Record, append_record

Make = Callable[..., Record]


def records(make_record: Make) -> list[Record]:
    """Long names and runtimes, one and two threads, as the report's table has them."""
    return [
        make_record(
            id=f"{name} {runtime} {threads}",
            model={"name": name},
            setup={"runtime": runtime, "threads": threads},
            latency={"p50_ms": 112.25, "p99_ms": 160.5, "cpu_p50_ms": 111.75},
            rate={"cpu_times_limit": 12.25 if threads == 1 else None},
        )
        for name in ("mobilefacenet-relu fp32", "mobilefacenet-prelu int8", "edgeface_xs")
        for runtime in ("onnxruntime", "executorch")
        for threads in (1, 2)
    ]


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_nothing_is_cut(
    make_record: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    many = records(make_record)
    _print(many)
    shown = capsys.readouterr().out
    assert "…" not in shown
    table = [line for line in shown.splitlines() if line.startswith(("│", "┃"))]
    assert max(map(len, table)) <= width
    headings = [cell.strip() for cell in table[0].strip("┃").split("┃")]
    kept, left_out = fit_terminal(many, width)
    assert headings == kept and set(kept) <= set(TERMINAL)
    for heading, cells in zip(kept, zip(*(line.strip("│").split("│") for line in table[1:]), strict=True), strict=True):
        if heading != "model":  # names are broken between words, figures stand whole
            assert {c.strip() for c in cells} - {""} == {COLUMNS[TERMINAL[heading]](r) for r in many} - {""}
    for column in left_out:
        assert column in shown
    assert left_out == [TERMINAL[heading] for heading in GIVE_WAY if TERMINAL[heading] in left_out]


def test_at_80_columns_stand_latency_memory_accuracy_and_limit(make_record: Make) -> None:
    kept, left_out = fit_terminal(records(make_record), 80)
    assert {"model", "runtime", "thr", "p50 ms", "MiB", "acc %", "× cpu"} <= set(kept)
    assert left_out
    assert fit_terminal(records(make_record), 200)[1] == []


def test_columns_without_a_figure_are_not_missed(make_record: Make) -> None:
    bare = make_record(accuracy=None, rate=None, latency={"p99_ms": None}, memory={"model_mib": None, "peak_mib": 70.0})
    kept, left_out = fit_terminal([bare], 200)
    assert kept == ["model", "runtime", "thr", "p50 ms", "first", "peak"] and left_out == []


def test_every_verb_of_a_phones_record_takes_what_it_does_not_tell(tmp_path: Path, make_record: Make) -> None:
    """benchmark_model tells no quantiles: tables, page, Markdown and plots leave them empty."""
    from facekd.benchmarks.report import build_report
    from facekd.schemas.record import read_records

    silent = {"p90_ms": None, "p99_ms": None, "quantiles_ms": [], "settled": None, "interval_reached": None}
    silent |= {"interval_low_ms": None, "interval_high_ms": None, "interval_width": None}
    append_record(tmp_path / "r.jsonl", make_record(latency=silent))
    append_record(tmp_path / "r.jsonl", make_record(id="b", model={"name": "other"}))
    files = build_report(read_records(tmp_path / "r.jsonl"), tmp_path / "report")
    assert {"percentiles.png", "pareto.png", "index.html"} <= {path.name for path in files}
    rows = [line for line in (tmp_path / "report/report.md").read_text().splitlines() if line.startswith("| net fp32")]
    assert len(rows) == 1 and "None" not in rows[0]
