"""What a package outside facekd adds: found by entry points or by `package.module:Class`, trained and evaluated with.

The package lies in a folder of its own on PYTHONPATH, and facekd runs in a process of its own, as it would for a user.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from facekd.training.checkpoint import CheckpointStore

LOSS = '''
"""A loss of one's own."""

import torch
from pydantic import Field

from facekd.distillation.losses.base import DistillationBatch, DistillationLoss, LossSettings, Shapes


class LengthSettings(LossSettings):
    weight: float = Field(default=1.0, gt=0)


class LengthLoss(DistillationLoss):
    """The student's embeddings become as long as the teacher's."""

    Settings = LengthSettings

    def __init__(self, settings: LengthSettings, shapes: Shapes) -> None:
        super().__init__()
        self.weights = {"length": settings.weight}

    def forward(self, batch: DistillationBatch) -> dict[str, torch.Tensor]:
        student, teacher = batch.student_embedding.norm(dim=1), batch.teacher_embedding.norm(dim=1)
        return {"length": (student - teacher.detach()).square().mean()}
'''

TEACHER = '''
"""A teacher of one's own: a fixed projection of the pixels, whose output learns to be as large as the student's."""

import torch
from torch import nn

from facekd.common.hashing import file_sha256
from facekd.distillation.parameter_group import ParameterGroup
from facekd.distillation.teachers.base import Teacher, TeacherOrigin, TeacherOutput, TeacherSettings


class ProjectionSettings(TeacherSettings):
    gain: float = 1.0


class ProjectionTeacher(Teacher):
    Settings = ProjectionSettings
    frozen = ("weights",)
    can_learn = True
    learns = True

    def __init__(self, path, gain):
        super().__init__()
        weights = torch.load(path, weights_only=True)
        self.register_buffer("weights", weights)
        self.gain = nn.Parameter(torch.tensor(gain))
        self.embedding_width = weights.shape[1]
        self.origin = TeacherOrigin(path.stem, file_sha256(path))

    @classmethod
    def fits(cls, found):
        return found.path.suffix == ".projection"

    @classmethod
    def open(cls, found, settings, student):
        return cls(found.path, settings.gain)

    def forward(self, x):
        return TeacherOutput(None, None, self.gain * (nn.functional.avg_pool2d(x, 16).flatten(1) @ self.weights))

    def losses(self, x, batch):
        student, own = batch.student_embedding.detach().norm(dim=1), batch.teacher_embedding.norm(dim=1)
        yield "size", 0.5, (own.mean() - student.mean()).square()

    def parameter_groups(self, optimisation):
        return [ParameterGroup("gain", [self.gain], "adamw", 0.1, 0.0, 0.0)]
'''

RUNTIME = '''
"""A runtime of one's own: model files that hold one matrix, applied to the means of an image's tiles by NumPy."""

import numpy as np

from facekd.runtimes.base import Runtime, Session, Tensor


class TilesSession(Session):
    provider = "numpy"

    def __init__(self, runtime, path):
        with path.open("rb") as file:
            self.weights = np.load(file)
        image = Tensor(name="image", dtype="float32", shape=(None, 3, 112, 112))
        embedding = Tensor(name="embedding", dtype="float32", shape=(None, self.weights.shape[1]))
        super().__init__(runtime, path, inputs=[image], outputs=[embedding])

    def run(self, x):
        means = x.reshape(len(x), 3, 7, 16, 7, 16).mean(axis=(3, 5))
        return (means.reshape(len(x), -1) @ self.weights).astype(np.float32)


class TilesRuntime(Runtime):
    name, title, suffixes, package = "tiles", "Tiles", (".tiles",), "other-package"

    def open(self, path, options):
        return TilesSession(self, path)
'''

ENTRY_POINTS = """
[facekd.losses]
embedding-length = other_package.losses:LengthLoss

[facekd.teachers]
projection = other_package.teachers:ProjectionTeacher

[facekd.runtimes]
tiles = other_package.runtimes:TilesRuntime
"""

STUDENT = {"scale": 0.25, "mid_multiplier": 0.125, "blocks": [1, 1, 1, 1], "feature_channels": 32, "embedding_width": 8}


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an installed package that is not facekd's, and a file for its teacher."""
    folder = tmp_path_factory.mktemp("site")
    package, metadata = folder / "other_package", folder / "other_package-1.0.dist-info"
    package.mkdir(), metadata.mkdir()
    (package / "__init__.py").write_text("")
    (package / "losses.py").write_text(LOSS)
    (package / "teachers.py").write_text(TEACHER)
    (package / "runtimes.py").write_text(RUNTIME)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: other-package\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    torch.manual_seed(5)
    torch.save(torch.randn(147, 8), folder / "faces.projection")
    with (folder / "faces.tiles").open("wb") as file:
        np.save(file, np.eye(147, dtype=np.float32))
    return folder


def facekd(other: Path, *words: object, trusted: str = "", code: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(other), "FACEKD_TRUSTED_MODULES": trusted}
    command = [sys.executable, "-m", "facekd", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == code, done.stderr[-3000:]
    return done


def recipe(path: Path, other: Path, *, loss: str, **teacher: Any) -> Path:
    content = {
        "name": "others",
        "data": {"source": "synthetic:identities=4,images=4", "workers": 0},
        "model": {"name": "mobilefacenet", "arguments": STUDENT},
        "teacher": {"bundle": str(other / "faces.projection"), **teacher},
        "distillation": [{loss: {"weight": 0.25}}],
        "training": {"batch_size": 8, "max_steps": 2, "log_every": 1, "precision": "fp32", "channels_last": False},
        "evaluation": {"dev": "synthetic:identities=4,pairs=20"},
    }
    path.write_text(yaml.safe_dump(content))
    return path


def parts(out: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line["parts"] for line in lines if line["kind"] == "step"]


def check_run(out: Path, other: Path, loss: str) -> None:
    steps = parts(out)
    assert len(steps) == 2
    for one in steps:
        assert one.keys() == {"loss", "identity", "teacher.size", f"{loss}.length"}
        total = one["identity"] + 0.5 * one["teacher.size"] + 0.25 * one[f"{loss}.length"]
        assert one["loss"] == pytest.approx(total, rel=1e-4)
    loaded = CheckpointStore(out / "checkpoints").load_newest()
    assert loaded is not None
    task = loaded[1]["task"]
    assert float(task["teacher.gain"]) != 1.0  # what learns is saved, what is frozen is not
    assert "teacher.weights" not in task
    card = json.loads((out / "bundle" / "card.json").read_text())
    assert card["teacher"]["name"] == "faces"
    assert json.loads((out / "result.json").read_text())["teacher_dev"] is not None
    evaluated = facekd(other, "evaluate", out / "bundle", "--pairs", "synthetic:identities=4,pairs=20", "--json")
    assert "accuracy" in evaluated.stdout


def test_a_loss_and_a_teacher_by_entry_points(other: Path, tmp_path: Path) -> None:
    """Installed is trusted; the teacher is found by what lies at its path."""
    path = recipe(tmp_path / "r.yaml", other, loss="embedding-length")
    facekd(other, "train", path, "--out", tmp_path / "out")
    check_run(tmp_path / "out", other, "embedding-length")


def test_a_loss_and_a_teacher_by_the_names_of_their_classes(other: Path, tmp_path: Path) -> None:
    named = {"name": "other_package.teachers:ProjectionTeacher", "arguments": {"gain": 2.0}}
    path = recipe(tmp_path / "r.yaml", other, loss="other_package.losses:LengthLoss", **named)
    refused = facekd(other, "train", path, "--out", tmp_path / "out", code=2).stderr
    assert refused.startswith(f"facekd: recipe {path} wants to run 'other_package.")
    facekd(other, "train", path, "--out", tmp_path / "out", trusted="other_package")
    check_run(tmp_path / "out", other, "LengthLoss")


def test_a_model_file_in_a_runtime_of_ones_own_is_evaluated_and_timed(other: Path, tmp_path: Path) -> None:
    model = other / "faces.tiles"
    figures = json.loads(
        facekd(other, "evaluate", model, "--pairs", "synthetic:identities=4,pairs=20", "--json").stdout
    )
    assert 0.5 <= next(iter(_numbers(figures, "accuracy"))) <= 1
    records = tmp_path / "records.jsonl"
    facekd(other, "benchmark", model, "--runs", "3", "--threads", "1", "--out", records)
    setup = json.loads(records.read_text().splitlines()[0])["setup"]
    assert (setup["runtime"], setup["runtime_version"], setup["provider"]) == ("tiles", "1.0", "numpy")


def _numbers(value: Any, name: str) -> Iterator[float]:
    """Every number of that name in nested mappings and lists."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == name and isinstance(inner, float):
                yield inner
            yield from _numbers(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _numbers(inner, name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "embedding-lenght"}, "did you mean 'embedding-length'?"),
        ({"loss": "embedding-length", "name": "projektion"}, "did you mean 'projection'?"),
        (
            {"loss": "embedding-length", "name": "projection", "arguments": {"gian": 1}},
            "projection has no setting 'gian'; valid: gain",
        ),
        ({"loss": "embedding-length", "arguments": {"gain": 1}}, "give teacher.name"),
        ({"loss": "os:system"}, "wants to run 'os:system'"),
    ],
)
def test_mistakes_are_one_line(other: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = recipe(tmp_path / "r.yaml", other, **change)
    said = facekd(other, "train", path, "--out", tmp_path / "out", code=2).stderr
    assert message in said
    assert said.count("\n") == 1
