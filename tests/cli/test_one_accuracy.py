"""evaluate, export and benchmark say the same accuracy of the same file on the same pairs, by the same rule."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from facekd.cli import benchmark, evaluate, export
from facekd.data.verification_bin import write_bin
from facekd.data.verification_set import VerificationSet
from facekd.models.bundle import save_bundle
from facekd.models.describe import describe
from facekd.models.registry import create_model


def say(*arguments: object) -> Any:
    app = typer.Typer()
    for module in (evaluate, export, benchmark):
        module.register(app)
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, (done.output, done.exception)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LFW's View 1 in small: 30 genuine pairs, then 30 impostor ones, so no fold holds both kinds."""
    random = np.random.default_rng(0)

    def face() -> np.ndarray:
        return cv2.resize(random.integers(0, 256, (9, 9, 3), dtype=np.uint8), (112, 112))

    images = []
    issame = np.arange(60) < 30
    for same in issame:
        first, other = face(), face()
        share = 0.45 if same else 0.2
        images += [first, (share * first + (1 - share) * other).astype(np.uint8)]
    path = tmp_path_factory.mktemp("pairs") / "view1.bin"
    write_bin(path, VerificationSet("view1", images, issame))
    return path


def test_the_verbs_agree_on_a_set_without_balanced_folds(pairs: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    arguments = {"scale": 0.25, "blocks": [1, 1, 1, 1], "embedding_width": 32, "activation": "relu"}
    model = create_model("mobilefacenet", **arguments).eval()
    save_bundle(
        tmp_path / "bundle",
        model,
        describe(model, kind="student", name="small", architecture="mobilefacenet", arguments=arguments),
    )
    say("export", tmp_path / "bundle", "--target", "onnx", "--pairs", pairs, "--out", tmp_path / "a", "--json")
    (artefact,) = (file.parent for file in (tmp_path / "a").rglob("manifest.json"))
    manifest = json.loads((artefact / "manifest.json").read_text())["accuracy"]
    (by_bundle,) = say("evaluate", tmp_path / "bundle", "--pairs", pairs, "--json")["sets"]
    (by_artefact,) = say("evaluate", artefact, "--pairs", pairs, "--json")["sets"]
    quick = ("--duration", "50ms", "--runs", "4", "--repeats", "1", "--no-peak", "--no-profile")
    record = say("benchmark", "run", artefact, "--pairs", pairs, *quick, "--json")["records"][0]["accuracy"]
    assert manifest["protocol"] == by_bundle["protocol"] == by_artefact["protocol"] == record["protocol"]
    assert record["protocol"] == "one threshold for all pairs"
    assert 0.55 < by_bundle["accuracy"] < 1
    assert manifest["float_accuracy"] == by_bundle["accuracy"]
    assert manifest["accuracy"] == by_artefact["accuracy"] == record["accuracy"]
