"""CONTRIBUTING.md's examples, each added to a copy of facekd as one file and then used."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from facekd.data.packing import write_folder
from facekd.data.sources.synthetic import SyntheticSource

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("losses", "teachers", "runtimes", "targets", "sources", "protocols")
STUDENT = "{scale: 0.25, mid_multiplier: 0.125, blocks: [1, 1, 1, 1], feature_channels: 32, embedding_width: 8}"
RECIPE = """name: tiny
data: {{source: "{faces}", workers: 0}}
model: {{name: mobilefacenet, arguments: {student}}}
{more}
training: {{max_steps: 2, batch_size: 8, precision: fp32, device: cpu, threads: 1, channels_last: false, log_every: 1}}
evaluation: {{dev: null}}
"""

pytestmark = pytest.mark.slow
Facekd = Callable[..., str]


@pytest.fixture(scope="module")
def extended(installed_layout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of facekd with the example files."""
    place = tmp_path_factory.mktemp("extended")
    shutil.copytree(installed_layout / "facekd", place / "facekd")
    shutil.copy(installed_layout / "pyproject.toml", place)
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    examples = re.findall(r"```python\n# (\S+\.py)\n(.*?)```", text, re.S)
    assert len(examples) == len(KINDS)
    for name, code in examples:
        path = place / ("facekd/" + name if name.startswith("export/") else name)
        assert path.parent.name in KINDS and not path.exists()
        path.write_text(code, encoding="utf-8")
    return place


@pytest.fixture(scope="module")
def work(extended: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Facekd, Path]:
    """The command line of the copy, and a folder: a teacher in teacher/bundle, faces in faces and in faces.jsonl."""
    folder = tmp_path_factory.mktemp("work")

    def run(*words: object) -> str:
        environment = {**os.environ, "PYTHONPATH": str(extended)}
        command = [sys.executable, "-m", "facekd", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=folder)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    write_folder(SyntheticSource(identities=4, images=6, seed=0), folder / "faces")
    names = sorted(path.relative_to(folder).as_posix() for path in (folder / "faces").rglob("*.jpg"))
    rows = [json.dumps({"file": name, "person": name.split("/")[1]}) for name in names]
    (folder / "faces.jsonl").write_text("\n".join(rows))
    (folder / "plain.yaml").write_text(RECIPE.format(faces="faces.jsonl", student=STUDENT, more="role: teacher"))
    run("train", "plain.yaml", "--out", "teacher")
    return run, folder


def test_the_examples_are_formatted_and_typed(extended: Path) -> None:
    for words in (["ruff", "format", "--check", "facekd"], ["ruff", "check", "facekd"], ["mypy", "-p", "facekd"]):
        done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, check=False, cwd=extended)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_source_is_what_the_folder_is(work: tuple[Facekd, Path]) -> None:
    """The teacher was trained on it, too."""
    run, _ = work
    listed, folder = (json.loads(run("data", "inspect", name, "--json")) for name in ("faces.jsonl", "faces"))
    assert (listed["images"], listed["identities"]) == (folder["images"], folder["identities"]) == (24, 4)


def test_a_student_learns_by_the_loss_from_the_teacher(work: tuple[Facekd, Path]) -> None:
    run, folder = work
    more = "teacher: {bundle: teacher/bundle, name: mirrored}\ndistillation: [embedding, {length: {weight: 0.1}}]"
    (folder / "distil.yaml").write_text(RECIPE.format(faces="faces", student=STUDENT, more=more))
    run("distill", "distil.yaml", "--out", "student")
    lines = [json.loads(line) for line in (folder / "student" / "log.jsonl").read_text().splitlines()]
    steps = [line["parts"] for line in lines if line["kind"] == "step"]
    assert len(steps) == 2 and all(step["length.length"] > 0 for step in steps)


def test_the_target_passes_the_gate_by_the_runtime_and_is_evaluated(work: tuple[Facekd, Path]) -> None:
    run, folder = work
    run("export", "teacher/bundle", "--target", "torchscript", "--out", "artefact")
    manifest = json.loads((folder / "artefact" / "manifest.json").read_text())
    assert manifest["parity"]["runtime"] == "TorchScript CPU" and manifest["parity"]["cosine_min"] > 0.9999
    words = ("--benchmark", "nearest", "--data", "faces", "--features", "cache", "--json")
    file, bundle = (
        json.loads(run("evaluate", model, *words))["figures"]["rank_1"] for model in ("artefact", "teacher/bundle")
    )
    # The network has hardly learnt: its cosines lie so close that float32 decides some neighbours.
    assert 0 < file <= 1 and file == pytest.approx(bundle, abs=3 / 24)
