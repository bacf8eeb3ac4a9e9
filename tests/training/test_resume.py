"""kill -9 at random moments, for real: the run that survives it ends in the same bytes."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from facekd.common.errors import UsageError
from facekd.data.sources.synthetic import SyntheticSource
from facekd.recipe import Recipe
from facekd.training import resumption

HERE = Path(__file__).parent
# No second chance for a race to hide in: each seed kills at other moments.
SEEDS = (0, 1)

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")


def train(out: Path, teacher: Path, *, kills: int, seed: int) -> int:
    """Trains until an attempt is not killed; returns how many were."""
    command = [sys.executable, str(HERE / "run_until_done.py"), str(out), str(teacher), str(kills), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return int(done.stdout.strip().splitlines()[-1])


def log_of(out: Path) -> list[dict[str, Any]]:
    """Lines of the log without what the clock, the machine and the number of sessions decide."""
    measured = {"seconds", "images_per_second", "data_wait_seconds", "resident_mib"}
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in entry.items() if name not in measured} for entry in entries]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE))
        import tiny_models

        return tiny_models.save_teacher(tmp_path_factory.mktemp("teacher") / "bundle")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, teacher: Path) -> Path:
    out = tmp_path_factory.mktemp("whole") / "out"
    assert train(out, teacher, kills=0, seed=0) == 0
    return out


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_killed_again_and_again_ends_in_the_same_bytes(
    tmp_path: Path, teacher: Path, uninterrupted: Path, seed: int
) -> None:
    out = tmp_path / "out"
    assert train(out, teacher, kills=6, seed=seed) > 0
    hashes = [
        hashlib.sha256((folder / "bundle" / "model.safetensors").read_bytes()).hexdigest()
        for folder in (uninterrupted, out)
    ]
    assert hashes[0] == hashes[1]
    assert log_of(out) == log_of(uninterrupted)
    assert not list((out / "checkpoints").glob(".writing-*"))


def test_a_checkpoint_from_before_a_field_existed_resumes_and_another_value_does_not() -> None:
    """A field added to the recipe later has, in an old checkpoint, its default."""
    source = SyntheticSource(identities=2, images=2)
    recipe = Recipe.model_validate({"name": "x", "data": {"source": "synthetic:identities=2"}})
    state = resumption.identity(recipe, source)
    del state["recipe"]["head"]["freeze"]
    state["recipe_hash"] = "of the older version"
    resumption.check(state, recipe, source, warn=lambda _: None)
    frozen = recipe.model_copy(update={"head": recipe.head.model_copy(update={"freeze": True})})
    with pytest.raises(UsageError, match=r"head\.freeze was False, is now True"):
        resumption.check(state, frozen, source, warn=lambda _: None)
