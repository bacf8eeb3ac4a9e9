"""A sweep whose cells share what their teacher gave, stored once."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from facekd.common.errors import UsageError
from facekd.distillation.teacher_cache import TeacherCache
from facekd.distillation.teachers.transformer import FrozenTransformer
from facekd.models.bundle import save_bundle
from facekd.models.describe import describe
from facekd.models.registry import create_model
from facekd.sweep.sweep import run_sweep
from facekd.training.log import Reporter

FACES = "synthetic:identities=6,images=6"
SWIN = {"patch_size": 8, "embed_dim": 16, "depths": [1, 1], "num_heads": [1, 2], "embedding_width": 16}
STUDENT = {
    "scale": 0.25,
    "mid_multiplier": 0.125,
    "blocks": [1, 1, 1, 1],
    "feature_channels": 16,
    "embedding_width": 16,
}


@pytest.fixture
def grid(tmp_path: Path) -> dict[str, Any]:
    model = create_model("swin_teacher", **SWIN)
    card = describe(model, kind="teacher", name="tiny", architecture="swin_teacher", arguments=SWIN)
    base = {
        "name": "base",
        "data": {"source": FACES, "workers": 0},
        "model": {"name": "mobilefacenet", "arguments": STUDENT},
        "training": {"batch_size": 6, "precision": "fp32", "channels_last": False, "device": "cpu"},
        "evaluation": {"report": ["synthetic:identities=8,pairs=20"]},
    }
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(base))
    return {
        "name": "shared",
        "base": "base.yaml",
        "teacher": str(save_bundle(tmp_path / "teacher", model, card)),
        "cache_views": 2,
        "budget": {"steps": 2},
        "seeds": [0, 1],
        "methods": {
            "undistilled": {},
            "embedding": {"distillation": [{"embedding": {}}]},
            "urfm": {"distillation": [{"urfm": {"local_centres": 4, "width": 16, "heads": 2}}]},
            "apt": {"distillation": [{"embedding": {}}, {"apt": {"prompts": 1, "keep": "none"}}]},
        },
        "baseline": "undistilled",
    }


def run(grid: dict[str, Any], folder: Path) -> Any:
    (folder / "grid.yaml").write_text(yaml.safe_dump(grid))
    return run_sweep(folder / "grid.yaml", out=folder / "out", reporter=Reporter(quiet=True))


def test_one_cache_serves_all_cells(grid: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown, forward = [], FrozenTransformer.forward

    def counted(self: FrozenTransformer, x: Any) -> Any:
        if type(self) is FrozenTransformer and x.is_contiguous() and len(x) <= 32:
            shown.append(len(x))
        return forward(self, x)

    grid["methods"].pop("apt")  # whose teacher runs at every step
    monkeypatch.setattr(FrozenTransformer, "forward", counted)
    state = run(grid, tmp_path)
    assert len(state.finished) == 6
    (folder,) = (tmp_path / "out" / "teacher-cache").iterdir()
    card = TeacherCache(folder).card
    assert (card.views, card.faces.images, card.tokens) == (2, 36, "float16")
    in_one_filling = sum(shown)
    shown.clear()
    again = run(grid, tmp_path)
    assert len(again.finished) == 6 and shown == []  # all is there
    assert in_one_filling < 4 * card.rows  # the filling, what measures its batch, the check of the input; no cell


def test_a_teacher_that_learns_is_not_stored(grid: dict[str, Any], tmp_path: Path) -> None:
    grid["methods"] = {name: grid["methods"][name] for name in ("undistilled", "apt")}
    grid["seeds"] = [0]
    state = run(grid, tmp_path)
    assert len(state.finished) == 2
    assert not (tmp_path / "out" / "teacher-cache").exists()


def test_stored_and_live_are_two_experiments(grid: dict[str, Any], tmp_path: Path) -> None:
    """Another number of views, or none, is not what a finished cell was run with."""
    grid["methods"] = {name: grid["methods"][name] for name in ("undistilled", "embedding")}
    grid["seeds"] = [0]
    run(grid, tmp_path)
    for views in (None, 3):
        with pytest.raises(UsageError, match="is finished, of another recipe"):
            run({**grid, "cache_views": views}, tmp_path)
