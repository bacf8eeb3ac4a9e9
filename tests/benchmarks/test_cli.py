"""What the verb accepts and refuses, before anything heavy is imported or measured."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from facekd.benchmarks.compare import PairedComparison
from facekd.cli.benchmark import register
from facekd.cli.parsing import parse_duration
from facekd.common.errors import UsageError
from facekd.schemas.record import Record, append_record, read_records


def invoke(*words: str | Path):  # type: ignore[no-untyped-def]
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    return CliRunner().invoke(app, ["benchmark", *map(str, words)])


@pytest.mark.parametrize(("text", "seconds"), [("500ms", 0.5), ("10s", 10), ("2m", 120), ("1.5", 1.5)])
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration("--duration", text) == seconds


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--duration", "soon"), "--duration soon: give a time such as 500ms, 10s or 2m"),
        (("--duration", "-3s"), "--duration -3s: give a time"),
        (("--threads", "0"), "--threads 0: give whole numbers from 1"),
        (("--threads", "1,two"), "--threads 1,two: give whole numbers"),
        (("--batch", ""), "--batch : give whole numbers"),
        (("--interval", "0"), "--interval 0.0: give a share above 0"),
        (("--pin", "0,4096"), "--pin 0,4096: give cores from 0 to"),
        (("--compute-units", "cpu,npu"), "--compute-units npu: valid are cpu, gpu, ane, all"),
        (("--binary", "x"), "--binary is for phones: give --device adb:SERIAL"),
        (("--runtime", "tvm"), "--runtime tvm: valid are coreml, executorch, litert, onnxruntime, torch, or"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(value),
)
def test_what_is_refused(tmp_path: Path, options: tuple[str, str], message: str) -> None:
    (tmp_path / "model.onnx").touch()
    error = invoke(tmp_path / "model.onnx", *options).exception
    assert isinstance(error, UsageError)
    assert str(error).startswith(message)


def test_device_names(tmp_path: Path, onnx_face_model: Path) -> None:
    error = invoke(onnx_face_model, "--device", "usb:1").exception
    assert isinstance(error, UsageError) and "adb:SERIAL" in str(error)


@pytest.mark.parametrize("out", ["taken/records.jsonl", "."])
def test_an_out_file_that_cannot_be_written_is_said_before_measuring(
    tmp_path: Path, onnx_face_model: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    (tmp_path / "taken").touch()
    monkeypatch.setattr("facekd.benchmarks.run.run_on_host", lambda *given, **named: pytest.fail("measured"))
    monkeypatch.setattr("facekd.benchmarks.compare.compare", lambda *given, **named: pytest.fail("measured"))
    for words in ((onnx_face_model,), ("compare", onnx_face_model, onnx_face_model)):
        error = invoke(*words, "--out", tmp_path / out).exception
        assert isinstance(error, UsageError) and re.search(r"cannot be written \(.+\): give a file at", str(error))
    assert list(tmp_path.iterdir()) == [tmp_path / "taken"]


def test_peers_and_ours_are_measured_in_one_run(tmp_path: Path, onnx_face_model: Path) -> None:
    """As the word run, with the foreign file's input spec on the line; here both files are foreign, of one name."""
    (tmp_path / "theirs").mkdir()
    theirs = tmp_path / "theirs/face.onnx"
    theirs.write_bytes(onnx_face_model.read_bytes() + b"\x72\x00")  # an empty metadata entry: other bytes, same network
    quick = ("--runs", "5", "--duration", "0s", "--repeats", "1", "--no-peak", "--no-profile")
    words = ("peers", onnx_face_model, theirs, *quick, "--mean", "0", "--std", "255", "--colour", "BGR", "--json")
    result = invoke(*words, "--out", tmp_path / "r.jsonl")
    assert result.exit_code == 0, result.exception
    records = read_records(tmp_path / "r.jsonl")
    assert [record.model.name for record in records] == [f"{onnx_face_model.parent.name}/face", "theirs/face"]
    assert len({record.run for record in records}) == 1 and len({record.model.sha256 for record in records}) == 2


def test_report_reads_several_files(
    tmp_path: Path, make_record: Callable[..., Record], comparison: PairedComparison
) -> None:
    for name in ("a", "b"):
        append_record(tmp_path / f"{name}.jsonl", make_record(id=name, model={"name": name}))
    result = invoke("report", tmp_path / "a.jsonl", tmp_path / "b.jsonl", "--out", tmp_path / "report")
    assert result.exit_code == 0, result.exception
    assert result.stdout.startswith("2 records: ")
    append_record(tmp_path / "c.jsonl", comparison)
    (tmp_path / "doc.md").write_text(
        "# Mine\n\n<!-- facekd benchmark -->\nold\n<!-- end of facekd benchmark -->\nend\n"
    )
    more = ("--comparisons", tmp_path / "c.jsonl", "--results", tmp_path / "doc.md", "--overwrite")
    assert invoke("report", tmp_path / "a.jsonl", "--out", tmp_path / "report", *more).exit_code == 0
    text = (tmp_path / "doc.md").read_text()
    assert text.startswith("# Mine\n") and text.endswith("end\n") and "\nold\n" not in text
    assert text.count("| a | onnxruntime | 1 | 2.00 |") == 1 and comparison.verdict in text
    assert comparison.verdict in (tmp_path / "report/report.md").read_text()
    again = invoke("report", tmp_path / "a.jsonl", "--out", tmp_path / "report").exception
    assert isinstance(again, UsageError) and "--overwrite" in str(again)
    assert invoke("report", tmp_path / "a.jsonl", "--out", tmp_path / "report", "--overwrite").exit_code == 0
