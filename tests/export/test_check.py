"""`facekd export`, `inspect` and `check` as a user runs them: tables, JSON, exit codes, tampered artefacts."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from facekd.cli import export as verb
from facekd.common.errors import FacekdError, UsageError
from facekd.export.golden import read_golden
from facekd.export.targets.base import TARGETS
from facekd.export.targets.onnx import OnnxTarget
from facekd.schemas.manifest import read_manifest

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def app() -> typer.Typer:
    app = typer.Typer()
    verb.register(app)

    @app.command()
    def other() -> None:
        """A second verb, so that `export` stays a sub-command."""

    return app


def run(app: typer.Typer, *arguments: object) -> Result:
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


@pytest.fixture(scope="module")
def artefact(app: typer.Typer, bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cli") / "out"
    result = run(app, bundle_path, "--target", "onnx", "--faces", 4, "--out", out)
    assert result.exit_code == 0, result.output
    assert "Export of small-prelu" in result.stdout
    assert "synthetic faces" in result.stdout.replace("\n", " ")
    return out


def test_check_passes_and_compares_with_the_bundle(app: typer.Typer, artefact: Path, bundle_path: Path) -> None:
    result = run(app, "check", artefact, "--bundle", bundle_path, "--faces", 3, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["passed"]
    assert report["faces"] == 3
    assert report["golden_cosine"] > 0.99999
    assert report["max_abs_difference"] < 1e-4


def test_inspect_shows_what_a_caller_needs(app: typer.Typer, artefact: Path) -> None:
    shown = run(app, "inspect", artefact).stdout
    for fact in ("RGB", "127.5", "opset 20", "lin_relu", "NNAPI", "raw embedding of 32"):
        assert fact in shown
    manifest = json.loads(run(app, "inspect", artefact, "--json").stdout)
    assert manifest["input"]["spec"]["mean"] == [127.5, 127.5, 127.5]


@pytest.mark.parametrize("victim", ["model.onnx", "golden/embedding.json", "golden/crop.png"])
def test_tampered_file_fails_the_check_by_name(app: typer.Typer, artefact: Path, tmp_path: Path, victim: str) -> None:
    copy = Path(shutil.copytree(artefact, tmp_path / "copy"))
    with (copy / victim).open("r+b") as file:
        file.seek(-20, 2)
        byte = file.read(1)
        file.seek(-20, 2)
        file.write(bytes([byte[0] ^ 1]))
    error = run(app, "check", copy).exception
    assert isinstance(error, FacekdError)
    assert victim in str(error)
    assert error.exit_code == 1


@pytest.mark.parametrize(
    "content", ["", "[]", '{"embedding": {}}', "[" * 100_000], ids=["none", "list", "kind", "nested"]
)
def test_a_damaged_golden_embedding_is_one_line(artefact: Path, tmp_path: Path, content: str) -> None:
    copy = Path(shutil.copytree(artefact, tmp_path / "copy"))
    (copy / "golden/embedding.json").write_text(content)
    with pytest.raises(FacekdError, match="is damaged") as caught:
        read_golden(copy, read_manifest(copy))
    assert "\n" not in str(caught.value)


def test_a_model_that_computes_something_else_fails_even_with_matching_hashes(
    app: typer.Typer, artefact: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(artefact, tmp_path / "copy"))
    manifest = json.loads((copy / "manifest.json").read_text())
    # The normalisation the app would use is not the one the model was trained with.
    manifest["input"]["spec"].update(mean=[0, 0, 0], std=[255, 255, 255])
    (copy / "manifest.json").write_text(json.dumps(manifest))
    error = run(app, "check", copy).exception
    assert isinstance(error, FacekdError)
    assert "golden crop's embedding has cosine" in str(error)


def test_missing_and_extra_files_fail(app: typer.Typer, artefact: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(artefact, tmp_path / "copy"))
    (copy / "extra.bin").touch()
    assert "extra.bin" in str(run(app, "check", copy).exception)
    (copy / "extra.bin").unlink()
    (copy / "golden" / "crop.png").unlink()
    assert "crop.png is missing" in str(run(app, "check", copy).exception)
    assert isinstance(run(app, "check", tmp_path).exception, UsageError)


def test_a_taken_place_is_a_usage_error_until_overwrite(app: typer.Typer, artefact: Path, bundle_path: Path) -> None:
    before = (artefact / "manifest.json").read_text()
    error = run(app, bundle_path, "--out", artefact).exception
    assert isinstance(error, UsageError)
    assert "--overwrite" in str(error)
    assert (artefact / "manifest.json").read_text() == before


class _Broken(OnnxTarget):
    name = "broken"

    def convert(self, *_: object) -> object:  # type: ignore[override]
        raise FacekdError("target broken: the converter met an operator it does not know")


def test_all_goes_on_past_a_failure_and_exits_1(
    app: typer.Typer, bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TARGETS._entries, "broken", _Broken)
    monkeypatch.setattr(sys, "argv", ["facekd", "export", "as", "typed"])
    out, results = tmp_path / "out", tmp_path / "results.md"
    results.write_text("# Results\n\nSomething measured by hand.\n")
    arguments = (bundle_path, "--target", "broken,onnx", "--faces", 4, "--out", out, "--results", results)
    result = run(app, *arguments, "--json")
    assert isinstance(result.exception, FacekdError)
    assert "1 of 2 cells failed: broken fp32" in str(result.exception)
    cells = json.loads(result.stdout)["artefacts"]
    assert [(cell["target"], cell["manifest"] is not None) for cell in cells] == [("broken", False), ("onnx", True)]
    assert [folder.name for folder in out.iterdir()] == ["onnx-fp32"]
    text = results.read_text()
    assert "Something measured by hand." in text
    assert "an operator it does not know" in text
    assert "log is" not in text
    assert "onnxruntime 1." in text
    assert "    facekd export as typed\n" in text
    # Run again, the section is replaced, not repeated.
    run(app, *arguments, "--overwrite")
    assert results.read_text().count("## Export of small-prelu") == 1


def test_resume_keeps_what_is_finished_and_refuses_what_is_something_else(
    app: typer.Typer, artefact: Path, bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TARGETS._entries, "broken", _Broken)
    out = tmp_path / "out"
    shutil.copytree(artefact, out / "onnx-fp32")
    before = (out / "onnx-fp32" / "manifest.json").read_bytes()
    # Were it made anew, `created` would differ.
    arguments = (bundle_path, "--target", "broken,onnx", "--faces", 4, "--out", out, "--resume")
    result = run(app, *arguments, "--json")
    assert "1 of 2 cells failed: broken fp32" in str(result.exception)
    assert [cell["manifest"] is not None for cell in json.loads(result.stdout)["artefacts"]] == [False, True]
    assert (out / "onnx-fp32" / "manifest.json").read_bytes() == before
    error = run(app, *arguments, "--layout", "nhwc").exception
    assert isinstance(error, UsageError)
    assert "layout nchw, asked for is nhwc" in str(error)
    assert isinstance(run(app, *arguments, "--overwrite").exception, UsageError)
    (out / "onnx-fp32" / "model.onnx").write_bytes(b"")
    assert "model.onnx was changed" in str(run(app, *arguments).exception)


def test_table_of_artefacts_made_at_different_times(app: typer.Typer, artefact: Path, tmp_path: Path) -> None:
    other, results = Path(shutil.copytree(artefact, tmp_path / "other")), tmp_path / "docs" / "results.md"
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps(manifest | {"precision": "fp16"}))
    found = json.loads(run(app, "table", other, artefact, "--results", results, "--json").stdout)["sections"]
    assert [cell["precision"] for cell in found["small-prelu"]] == ["fp32", "fp16"]
    assert "| onnx | fp16 |" in results.read_text()
    manifest["bundle"]["sha256"] = "0" * 64
    (other / "manifest.json").write_text(json.dumps(manifest))
    assert "another bundle 'small-prelu'" in str(run(app, "table", other, artefact).exception)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--target", "ncnn"), "valid: onnx, coreml, tflite, executorch, android"),
        (("--precision", "fp8"), "valid: fp32, fp16, w8, palette, int8"),
        (("--batch", "0"), "valid: dynamic, or a number"),
        (("--layout", "hwc"), "valid: nchw, nhwc"),
        (("--precision", "int8"), "--calibration"),
        (("--target", "coreml", "--precision", "int8"), "needs macOS"),
        (("--calibration-method", "kl"), "minmax"),
    ],
)
def test_invalid_options_name_the_valid_ones(
    app: typer.Typer, bundle_path: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    error = run(app, bundle_path, *arguments, "--out", tmp_path / "out").exception
    assert isinstance(error, UsageError), error
    assert message in str(error)
    assert not list(tmp_path.iterdir())


def test_accuracy_before_and_after_on_pairs(app: typer.Typer, bundle_path: Path, tmp_path: Path) -> None:
    pairs = "synthetic:identities=12,pairs=40,seed=1"
    result = run(app, bundle_path, "--pairs", pairs, "--out", tmp_path / "out", "--faces", 4, "--json")
    assert result.exit_code == 0, result.exception
    accuracy = json.loads(result.stdout)["artefacts"][0]["manifest"]["accuracy"]
    assert accuracy["pairs"] == 40
    assert accuracy["accuracy"] == accuracy["float_accuracy"]
    assert accuracy["changed"] == 0
