"""`facekd train` and `facekd distill` from a YAML file to a bundle, and their one-line errors."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer
import yaml
from PIL import Image
from typer.testing import CliRunner, Result

from facekd.cli import distill, train
from facekd.common.errors import FacekdError, UsageError
from facekd.training.finish import RunResult

TEACHER = {"patch_size": 8, "embed_dim": 16, "depths": [1, 1], "num_heads": [1, 2], "embedding_width": 16}


def content(**changes: Any) -> dict[str, Any]:
    return {
        "name": "tiny-teacher",
        "role": "teacher",
        "data": {"source": "synthetic:identities=4,images=4", "workers": 0},
        "model": {"name": "swin_teacher", "arguments": TEACHER},
        "training": {
            "max_steps": 2,
            "batch_size": 8,
            "precision": "fp32",
            "channels_last": False,
            "device": "cpu",
            "threads": 1,
        },
        "evaluation": {"dev": "synthetic:identities=4,pairs=20"},
        **changes,
    }


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(content()))
    return path


def invoke(*arguments: object) -> Result:
    app = typer.Typer()
    train.register(app)
    distill.register(app)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_images_of_every_depth_train_alike(tmp_path: Path) -> None:
    """Grey, 16-bit, CMYK and transparent files are faces too: converted on reading, none counted as broken."""
    face = cv2.resize(np.random.default_rng(0).integers(0, 256, (7, 7, 3), dtype=np.uint8), (112, 112))
    for person in ("a", "b"):
        folder = tmp_path / "faces" / person
        folder.mkdir(parents=True)
        cv2.imwrite(str(folder / "grey.png"), face[..., 0])
        cv2.imwrite(str(folder / "deep.png"), face.astype(np.uint16) * 257)
        cv2.imwrite(str(folder / "transparent.png"), np.dstack([face, face[..., :1]]))
        Image.fromarray(face).convert("CMYK").save(folder / "print.jpg")
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(content(data={"source": str(tmp_path / "faces"), "workers": 0}, evaluation={})))
    result = invoke("train", path, "--out", tmp_path / "out", "--set", "training.log_every=1")
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["kind"] == "step"]
    assert [line["broken"] for line in steps] == [0, 0]
    assert steps[-1]["images"] == 16


def refused(*arguments: object) -> str:
    """The one line a refused command says."""
    result = invoke(*arguments)
    assert isinstance(result.exception, FacekdError), result.output
    assert "\n" not in str(result.exception)
    return str(result.exception)


def test_train_then_distill_from_its_bundle(recipe: Path, tmp_path: Path) -> None:
    result = invoke("train", recipe, "--out", tmp_path / "teacher")
    assert result.exit_code == 0, result.output
    assert "accuracy" in result.stdout
    assert "bundle" in result.stdout
    student = tmp_path / "student.yaml"
    arguments = {"scale": 0.25, "blocks": [1, 1, 1, 1], "embedding_width": 16, "feature_channels": 32}
    student.write_text(
        yaml.safe_dump(
            content(
                name="tiny-student",
                role="student",
                model={"name": "mobilefacenet", "arguments": arguments},
                distillation=["embedding"],
            )
        )
    )
    out = tmp_path / "student"
    result = invoke(
        "distill",
        student,
        "--teacher",
        tmp_path / "teacher" / "bundle",
        "--data",
        "synthetic:identities=4,images=6",
        "--set",
        "training.max_steps=3",
        "--out",
        out,
        "--json",
    )
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed["finished"] is True
    assert printed["step"] == 3
    assert printed["dev"]["pairs"] == 20
    card = json.loads((out / "bundle" / "card.json").read_text())
    assert card["training"]["data"]["images"] == 24
    assert card["teacher"]["name"] == "tiny-teacher"
    assert yaml.safe_load((out / "recipe.yaml").read_text())["training"]["max_steps"] == 3


def test_usage_errors_are_one_line(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "names no distillation method" in refused("distill", recipe, "--out", out)
    assert "no recipe 'celeba-typo'" in refused("train", "celeba-typo", "--out", out)
    assert "unknown field 'training.epoch', did you mean 'epochs'" in refused(
        "train", recipe, "--out", out, "--set", "training.epoch=1"
    )
    assert "no data at nowhere" in refused("train", recipe, "--out", out, "--data", "nowhere")
    assert "needs a teacher" in refused("distill", recipe, "--out", out, "--set", "distillation.embedding={}")
    out.joinpath("note.txt").write_text("mine")
    assert "not empty" in refused("train", recipe, "--out", out)
    assert out.joinpath("note.txt").exists()
    assert UsageError.exit_code == 2


@pytest.mark.parametrize(("number", "everyone"), [(signal.SIGINT, False), (signal.SIGTERM, True)])
def test_a_stopped_run_exits_130_and_the_command_it_names_goes_on(
    recipe: Path, tmp_path: Path, number: signal.Signals, everyone: bool
) -> None:
    """Ctrl-C, and the SIGTERM that systemd and Slurm send to a run and to its loader's processes as well."""
    long = {**content()["training"], "max_steps": None, "epochs": 100000}
    recipe.write_text(yaml.safe_dump(content(training=long, data={**content()["data"], "workers": 1})))
    program = (
        "import sys, typer; from facekd import cli; from facekd.cli import train\n"
        "cli._register = lambda: (train.register(cli.app), cli.app.callback()(lambda: None)); cli.main()"
    )
    command = [sys.executable, "-c", program, "train", str(recipe), "--out", str(tmp_path / "out")]
    log = tmp_path / "out" / "log.jsonl"
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 240
        while not (log.exists() and '"kind": "step"' in log.read_text()) and process.poll() is None:
            assert time.monotonic() < deadline, "no step within four minutes"
            time.sleep(0.1)
        (os.killpg if everyone else os.kill)(process.pid, number)
        _, errors = process.communicate(timeout=240)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    last = errors.strip().splitlines()[-1]
    assert last.startswith(f"facekd: {number.name}: stopped and saved after step ")
    assert last.endswith(f"go on with: facekd train {recipe} --out {tmp_path / 'out'} --resume")
    done = int(last.split("after step ")[1].split()[0])
    result = invoke("train", recipe, "--out", tmp_path / "out", "--resume", "--set", f"training.max_minutes={1e-9}")
    assert result.exit_code == 0, result.exception
    assert json.loads((tmp_path / "out" / "result.json").read_text())["step"] == done + 1


def test_without_pairs_there_is_no_empty_table(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = RunResult(tmp_path / "bundle", 2, 2, 2, None, {}, None, 10.0, tmp_path / "result.json")
    monkeypatch.setattr("facekd.training.run.run_recipe", lambda *_, **__: ended)
    train.run_verb(str(recipe), [], out=tmp_path, resume=False, overwrite=False, json_output=False)
    printed = capsys.readouterr().out
    assert printed.splitlines()[0] == "tiny-teacher"
    assert f"bundle  {tmp_path / 'bundle'}\n" in printed and "accuracy" not in printed
