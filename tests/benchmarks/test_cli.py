"""What the verb accepts and refuses, before anything heavy is imported or measured."""

from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from facekd.benchmarks.record import Record, append_record
from facekd.cli.benchmark import parse_duration, register
from facekd.errors import UsageError


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
        (("--runtime", "tvm"), "--runtime tvm: valid are onnxruntime, litert, executorch, torch, coreml"),
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


def test_report_reads_several_files(tmp_path: Path, make_record: Callable[..., Record]) -> None:
    for name in ("a", "b"):
        append_record(tmp_path / f"{name}.jsonl", make_record(id=name, model={"name": name}))
    result = invoke("report", tmp_path / "a.jsonl", tmp_path / "b.jsonl", "--out", tmp_path / "report")
    assert result.exit_code == 0, result.exception
    assert result.stdout.startswith("2 records: ")
    again = invoke("report", tmp_path / "a.jsonl", "--out", tmp_path / "report").exception
    assert isinstance(again, UsageError) and "--overwrite" in str(again)
    assert invoke("report", tmp_path / "a.jsonl", "--out", tmp_path / "report", "--overwrite").exit_code == 0
