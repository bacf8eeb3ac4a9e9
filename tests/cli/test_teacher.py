"""`facekd teacher cache`, then `facekd distill` from what it stored."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from facekd.cli import _register, app
from facekd.models.bundle import save_bundle
from facekd.models.describe import describe
from facekd.models.registry import create_model

SWIN = {"patch_size": 8, "embed_dim": 16, "depths": [1, 1], "num_heads": [1, 2], "embedding_width": 16}
STUDENT = {"scale": 0.125, "mid_multiplier": 0.125, "blocks": [1, 1, 1, 1], "feature_channels": 16}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    model = create_model("swin_teacher", **SWIN)
    card = describe(model, kind="teacher", name="tiny", architecture="swin_teacher", arguments=SWIN)
    content = {
        "name": "tiny",
        "data": {"source": "synthetic:identities=4,images=4", "workers": 0},
        "model": {"name": "mobilefacenet", "arguments": {**STUDENT, "embedding_width": 16}},
        "teacher": {"bundle": str(save_bundle(tmp_path / "teacher", model, card))},
        "distillation": [{"embedding": {}}],
        "training": {"epochs": 2, "batch_size": 8, "precision": "fp32", "channels_last": False, "device": "cpu"},
    }
    place = tmp_path / "recipe.yaml"
    place.write_text(yaml.safe_dump(content))
    return place


def call(*words: object, expect: int = 0) -> str:
    if not app.registered_commands:
        _register()
    ended = CliRunner().invoke(app, [str(word) for word in words])
    assert ended.exit_code == expect or isinstance(ended.exception, Exception), ended.output
    return ended.output if expect == 0 else str(ended.exception)


def test_store_and_distil(recipe: Path, tmp_path: Path) -> None:
    store = ["teacher", "cache", recipe, "--out", tmp_path / "cache", "--trust-input", "--batch-size", 4]
    said: dict[str, Any] = json.loads(call(*store, "--json"))
    assert (said["images"], said["views"], said["tokens"], said["computed"]) == (16, 2, "none", 32)
    assert said["bytes"] == 32 * 16 * 2
    again = call(*store)
    assert "embeddings of tiny for 2 x 16 views" in again
    assert f"--set teacher.cache={tmp_path / 'cache'}" in again
    words = ["distill", recipe, "--set", f"teacher.cache={tmp_path / 'cache'}", "--tracker", "none"]
    call(*words, "--out", tmp_path / "run")
    assert (tmp_path / "run" / "bundle" / "card.json").is_file()
    card = json.loads((tmp_path / "run" / "bundle" / "card.json").read_text())
    assert card["training"]["recipe"]["teacher"]["cache"] == str(tmp_path / "cache")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--part", "3"], "--part '3': give K/N"),
        (["--part", "3/2"], "part 3/2: give K/N with K from 1 to N"),
        (["--teacher", "nowhere"], "no bundle or model file at nowhere"),
        (["--set", "distillation=[{apt: {}}, {embedding: {}}]"], "apt changes the teacher while it teaches"),
        (["--set", "teacher=null"], "has no teacher: give teacher.bundle"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(recipe: Path, tmp_path: Path, words: list[str], message: str) -> None:
    store = ["teacher", "cache", recipe, "--out", tmp_path / "cache", "--trust-input"]
    assert message in call(*store, *words, expect=2)
    assert not (tmp_path / "cache").exists()
