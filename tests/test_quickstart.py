"""The quickstart end to end on little: every file it names is there, and the figures are those of the bundles."""

import json
import sys
from pathlib import Path

import pytest

from facekd.cli import main
from facekd.data.opening import load_verification_set
from facekd.evaluation.embedding import evaluate_verification
from facekd.models.bundle import load_bundle
from facekd.models.embedder import ModelEmbedder

PAIRS = "synthetic:identities=20,pairs=40"
SMALL = ["training.max_steps=3", "training.batch_size=8", f'evaluation.report=["{PAIRS}"]']


@pytest.mark.slow
def test_everything_it_names_is_there_and_true(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime", reason="the export step needs facekd[onnx]")
    monkeypatch.setattr("facekd.quickstart.IDENTITIES", 8)
    words = [word for setting in SMALL for word in ("--set", setting)]
    monkeypatch.setattr(sys, "argv", ["facekd", "quickstart", "--out", str(tmp_path / "q"), "--json", *words])
    with pytest.raises(SystemExit) as stop:
        main()
    out = capfd.readouterr().out
    assert stop.value.code in (0, None)
    figures = json.loads(out)
    assert figures["gain"] == pytest.approx(
        figures["models"]["distilled"]["accuracy"] - figures["models"]["undistilled"]["accuracy"]
    )
    assert (Path(figures["artefacts"]["onnx"]) / "manifest.json").is_file()
    record = json.loads((tmp_path / "q" / "benchmark.jsonl").read_text())
    assert record["latency"]["p50_ms"] == figures["latency_ms"]["onnx"] > 0

    bundles = {name: load_bundle(model["bundle"]) for name, model in figures["models"].items()}
    assert [bundles[name].card.kind for name in ("teacher", "undistilled", "distilled")] == [
        "teacher",
        "student",
        "student",
    ]
    assert bundles["distilled"].model.state_dict().keys() == bundles["undistilled"].model.state_dict().keys()
    assert bundles["distilled"].card.teacher is not None
    assert bundles["distilled"].card.teacher["sha256"] == bundles["teacher"].card.sha256
    student = bundles["distilled"]
    again = evaluate_verification(ModelEmbedder(student.model, student.card.input), load_verification_set(PAIRS))
    assert again.accuracy == pytest.approx(figures["models"]["distilled"]["accuracy"], abs=0.03)
