"""`facekd models` and `facekd info`: tables for people, one JSON object for machines, one line and a code on errors."""

import json
from pathlib import Path

import pytest
import torch
import typer
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

from facekd.cli import info, models
from facekd.common.errors import FacekdError, UsageError
from facekd.models import hub
from facekd.models.bundle import save_bundle
from facekd.models.describe import describe
from facekd.models.registry import create_model, list_models
from facekd.schemas.card import Metric, Threshold

ARGUMENTS = {"scale": 0.25, "blocks": [1, 1, 1, 1], "embedding_width": 16, "feature_channels": 32}
SWIN = {"img_size": 112, "patch_size": 8, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 4], "window_size": 7}


def run(*arguments: object) -> Result:
    """The two verbs in an app of their own, so that no other verb is needed."""
    app = typer.Typer(rich_markup_mode=None)
    models.register(app)
    info.register(app)
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"}, catch_exceptions=True)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    model = create_model("mobilefacenet", **ARGUMENTS)
    card = describe(
        model,
        kind="student",
        name="tiny",
        architecture="mobilefacenet",
        arguments=ARGUMENTS,
        metrics=[Metric(dataset="lfw_dev", protocol="10-fold", name="tar", far=1e-3, value=0.87654)],
        thresholds=[Threshold(far=1e-3, threshold_cos=0.3125, dataset="lfw_dev")],
    )
    return save_bundle(tmp_path / "bundle", model, card)


def test_models_lists_every_registered_model() -> None:
    answer = run("models", "--json")
    assert answer.exit_code == 0
    rows = {row["name"]: row for row in json.loads(answer.stdout)["models"]}
    assert set(rows) == {entry.name for entry in list_models()}
    assert rows["mobilefacenet"]["parameters"] == 1_200_512
    assert rows["mobilefacenet"]["grid"] == [7, 7]


def test_models_list_is_the_same_as_a_table() -> None:
    for arguments in (("models",), ("models", "list")):
        answer = run(*arguments)
        assert answer.exit_code == 0
        line = next(line for line in answer.stdout.splitlines() if " mobilefacenet_s2 " in line)
        for fact in ("student", "2.060M", "437.5", "512", "7x7"):
            assert fact in line
        assert "timm/<name>" in answer.stdout


def test_import_writes_a_teacher_bundle_that_info_verifies(tmp_path: Path) -> None:
    teacher = create_model("swin_teacher", **SWIN, embedding_width=20)
    save_file(teacher.state_dict() | {"centres": torch.randn(5, 20)}, tmp_path / "t.safetensors")
    description = {
        "body": {"class": "timm.models.swin_transformer.SwinTransformer", "arguments": SWIN},
        "centres": {"key": "centres", "meaning": "scale 32, cosine margin 0.2"},
    }
    (tmp_path / "t.json").write_text(json.dumps(description))
    command = ("models", "import", tmp_path / "t.safetensors", "--description", tmp_path / "t.json")
    answer = run(*command, "--out", tmp_path / "out", "--json")
    assert answer.exit_code == 0
    card = json.loads(answer.stdout)["card"]
    assert (card["kind"], card["name"], card["head"]["num_identities"]) == ("teacher", "t", 5)
    again = run(*command, "--out", tmp_path / "out")
    assert isinstance(again.exception, UsageError) and "--overwrite" in str(again.exception)
    labelled = run(
        *command, "--out", tmp_path / "out", "--overwrite", "--labels", "synthetic:identities=5,images=2,seed=0"
    )
    assert labelled.exit_code == 0
    assert len(json.loads(run("info", tmp_path / "out", "--json").stdout)["card"]["head"]["labels"]) == 64
    other = run(*command, "--out", tmp_path / "b", "--labels", "synthetic:identities=6,images=2,seed=0")
    assert "5 class centres, the labelled data 6 identities" in str(other.exception)


def test_info_shows_the_card(bundle: Path) -> None:
    card = json.loads((bundle / "card.json").read_text())
    answer = json.loads(run("info", bundle, "--json").stdout)
    assert answer == {"path": str(bundle), "verified": True, "card": card}
    text = run("info", bundle).stdout
    for fact in ("tiny (sha256 verified)", card["sha256"], f"{card['macs']:,}", "tar at FAR 0.001", "0.8765", "0.3125"):
        assert fact in text


def test_info_refuses_changed_weights_and_other_things(bundle: Path, tmp_path: Path) -> None:
    assert isinstance(run("info", tmp_path / "none").exception, UsageError)
    data = bytearray((bundle / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (bundle / "model.safetensors").write_bytes(data)
    error = run("info", bundle).exception
    assert isinstance(error, FacekdError) and error.exit_code == 1
    assert "changed or damaged" in str(error)


def test_push_and_pull_pass_their_options_on(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple] = []

    def push(path: Path, repo: str, *, private: bool) -> str:
        calls.append(("push", path, repo, private))
        return "https://hub.example/commit/1"

    def pull(repo: str, out: Path, *, revision: str | None, overwrite: bool) -> Path:
        calls.append(("pull", repo, out, revision, overwrite))
        return out

    monkeypatch.setattr(hub, "push_bundle", push)
    monkeypatch.setattr(hub, "pull_bundle", pull)
    assert "https://hub.example/commit/1" in run("models", "push", bundle, "owner/tiny").stdout
    answer = run("models", "push", bundle, "owner/tiny", "--public", "--json")
    assert json.loads(answer.stdout)["commit"] == "https://hub.example/commit/1"
    run("models", "pull", "owner/tiny", "--out", tmp_path / "a", "--revision", "v1")
    run("models", "pull", "owner/tiny", "--out", bundle, "--overwrite", "--json")
    assert calls == [
        ("push", bundle, "owner/tiny", True),
        ("push", bundle, "owner/tiny", False),
        ("pull", "owner/tiny", tmp_path / "a", "v1", False),
        ("pull", "owner/tiny", bundle, None, True),
    ]
