"""Runs on several ranks: the same training, whatever their number, and whatever it was before."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from facekd.common.errors import UsageError
from facekd.data.sources.synthetic import SyntheticSource
from facekd.distributed import collectives
from facekd.recipe import Recipe
from facekd.training.checkpoint import CheckpointFile, CheckpointStore
from facekd.training.stream import BatchStream

HERE = Path(__file__).parent

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="the ranks are forks")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE))
        import tiny_models

        return tiny_models.save_teacher(tmp_path_factory.mktemp("teacher") / "bundle")


def run_script(name: str, *arguments: object) -> str:
    command = [sys.executable, str(HERE / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=590, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, teacher: Path) -> Path:
    """Folders of runs: `1`, `2`, `4` on so many ranks; `2-1` to `2-4` begun on 2, and from mid-epoch on others."""
    out = tmp_path_factory.mktemp("runs")
    run_script("train_ranks.py", out, teacher)
    return out


def newest(out: Path) -> tuple[CheckpointFile, dict[str, Any]]:
    loaded = CheckpointStore(out / "checkpoints").load_newest()
    assert loaded is not None
    return loaded


def state(out: Path) -> dict[str, Any]:
    return newest(out)[1]


def tensors(value: Any, name: str = "") -> dict[str, torch.Tensor]:
    """Every tensor of a checkpoint's state, by its place."""
    if isinstance(value, torch.Tensor):
        return {name: value}
    found: dict[str, torch.Tensor] = {}
    for key, child in value.items() if isinstance(value, dict) else ():
        found |= tensors(child, f"{name}/{key}")
    return found


def learnt(out: Path) -> dict[str, torch.Tensor]:
    """Weights, optimisers and average; the ranks' rows are read without torch.distributed.checkpoint."""
    file, saved = newest(out)
    found = tensors({key: saved[key] for key in ("task", "optimisers", "average")})
    if file.folder is not None:
        parts = [load_file(path) for path in sorted(file.folder.glob("*.safetensors"))]
        for name in parts[0]:
            place = "/" + re.sub(r"^(optimisers/\w+)/", r"\1/state/", name)
            assert found[place].shape[0] == 0
            found[place] = torch.cat([part[name] for part in parts])
    return found


def losses(out: Path) -> list[tuple[int, int, float, float]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["kind"] == "step"]
    return [(line["step"], line["images"], line["parts"]["loss"], line["gradient_norm"]) for line in steps]


@forks
@pytest.mark.slow
@pytest.mark.parametrize("name", ["2", "4", "2-1", "2-2", "2-3", "2-4"])
def test_any_number_of_ranks_learns_what_one_process_learns(runs: Path, name: str) -> None:
    """Weights, centres, momentum, average and losses; `2-3` also says that a reshard loses nothing."""
    assert [line[:2] for line in losses(runs / name)] == [(1, 24), (2, 48), (3, 72), (4, 96)]
    np.testing.assert_allclose(losses(runs / name), losses(runs / "1"), rtol=1e-5)
    one, many = learnt(runs / "1"), learnt(runs / name)
    assert one.keys() == many.keys()
    assert "/task/head.centres" in one
    for key in one:
        torch.testing.assert_close(
            many[key], one[key], rtol=1e-5, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}"
        )


@forks
@pytest.mark.slow
def test_the_same_ranks_resume_bit_for_bit_and_others_from_the_same_centres(runs: Path) -> None:
    begun, whole = learnt(runs / "2"), learnt(runs / "2-2")
    assert all(torch.equal(begun[key], whole[key]) for key in begun)
    assert state(runs / "2-")["progress"]["batch"] == 2  # of four: in the middle of an epoch
    assert len(state(runs / "2-")["random_by_rank"]) == 2
    assert "random_by_rank" not in state(runs / "2-1")


@pytest.fixture(scope="module")
def resharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What reshard_ranks.py leaves: centres of 2 ranks, read on 1 to 4; and what a full disk made them say."""
    out = tmp_path_factory.mktemp("resharded")
    run_script("reshard_ranks.py", out)
    return out


@forks
@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_centres_and_momentum_of_two_ranks_come_back_bit_for_bit_on_any_number(resharded: Path, ranks: int) -> None:
    parts = [torch.load(resharded / f"read-{ranks}-{rank}.pt") for rank in range(ranks)]
    assert [len(part["centres"]) for part in parts] == [len(part) for part in torch.arange(1_999).chunk(ranks)]
    generator = torch.Generator().manual_seed(0)
    for name in ("centres", "momentum"):
        assert torch.equal(torch.cat([part[name] for part in parts]), torch.randn(1_999, 64, generator=generator))


@forks
@pytest.mark.slow
def test_a_disk_that_is_full_for_one_rank_is_said_on_all_and_leaves_the_checkpoint_before(resharded: Path) -> None:
    said = [(resharded / f"said-{rank}.txt").read_text() for rank in (0, 1)]
    assert said[0] == said[1]
    assert re.fullmatch(
        r"checkpoint of step 2 not written to .*: File too large; that of step 1 is intact\. .*", said[0]
    )
    (left,) = (resharded / "checkpoints").iterdir()
    assert left.name.startswith("step-00000001-")


@forks
@pytest.mark.slow
def test_one_rank_writes_and_the_bundle_is_the_student(runs: Path) -> None:
    for name in ("1", "4", "2-3"):
        assert sorted(path.name for path in (runs / name).iterdir() if path.name != "tensorboard") == [
            "bundle",
            "checkpoints",
            "log.jsonl",
            "recipe.yaml",
            "result.json",
        ]
        result = json.loads((runs / name / "result.json").read_text())
        assert (result["finished"], result["images"]) == (True, 96)


@forks
@pytest.mark.slow
def test_accumulation_bf16_compile_and_channels_last_together_are_the_plain_run_but_for_bf16(runs: Path) -> None:
    """Two ranks with all of them, beside one process in float32 without any but the accumulation."""
    assert json.loads((runs / "combined" / "result.json").read_text())["precision"] == "bf16 NHWC"
    assert json.loads((runs / "plain" / "result.json").read_text())["precision"] == "fp32 NCHW"
    np.testing.assert_allclose(losses(runs / "combined"), losses(runs / "plain"), rtol=0.05)
    plain, combined = learnt(runs / "plain"), learnt(runs / "combined")
    assert plain.keys() == combined.keys()
    assert learnt(runs / "combined")["/task/head.centres"].dtype == torch.float32


def feed_recipe(**training: Any) -> Recipe:
    values = {"name": "x", "data": {"source": "-", "workers": 0}, "training": {"batch_size": 12, **training}}
    return Recipe.model_validate(values)


def rank_of(monkeypatch: pytest.MonkeyPatch, rank: int, world: int) -> None:
    """This process plays one rank; the others' counts are taken to be its own."""
    monkeypatch.setattr(collectives, "rank", lambda: rank)
    monkeypatch.setattr(collectives, "world", lambda: world)
    monkeypatch.setattr(collectives, "gather_numbers", lambda *numbers: [list(numbers)] * world)


@pytest.mark.parametrize("world", [2, 3, 4, 6])
def test_every_image_comes_once_over_all_ranks_in_the_batches_of_one_process(
    monkeypatch: pytest.MonkeyPatch, world: int
) -> None:
    source = SyntheticSource(identities=5, images=10)
    monkeypatch.setattr(source, "read", lambda i: np.zeros((4, 4, 3), np.uint8))

    def batches(rank: int, world: int, epoch: int, batch: int) -> list[set[str]]:
        rank_of(monkeypatch, rank, world)
        steps = BatchStream(feed_recipe(), source).steps(epoch, batch)
        return [set(next(steps).keys) for _ in range(4 - batch)]

    for epoch, batch in ((0, 0), (1, 0), (1, 3)):
        whole = batches(0, 1, epoch, batch)
        parts = [batches(rank, world, epoch, batch) for rank in range(world)]
        for place, expected in enumerate(whole):
            shares = [part[place] for part in parts]
            assert set.union(*shares) == expected
            assert sum(map(len, shares)) == len(expected) == 12
    assert len(set.union(*batches(0, 1, 0, 0))) == 48


def test_ranks_that_do_not_divide_the_batch_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    source = SyntheticSource(identities=5, images=10)
    for world in (5, 12):
        rank_of(monkeypatch, 0, world)
        with pytest.raises(UsageError, match=rf"batch_size = 12 .* over {world} .*start 1, 2, 3, 4, 6 ranks"):
            BatchStream(feed_recipe(), source)


def test_a_batch_that_one_rank_lost_is_left_out_on_all(monkeypatch: pytest.MonkeyPatch) -> None:
    source = SyntheticSource(identities=5, images=10)
    monkeypatch.setattr(source, "read", lambda i: np.zeros((4, 4, 3), np.uint8))
    rank_of(monkeypatch, 0, 2)
    # The other rank: nothing broken in this step but its second batch, of which one image is left.
    monkeypatch.setattr(collectives, "gather_numbers", lambda *numbers: [list(numbers), [0, 6, 1]])
    step = next(BatchStream(feed_recipe(accumulation=2), source).steps(0, 0))
    assert (len(step.batches), step.images, step.total, step.next_batch) == (
        1,
        6,
        12,
        2,
    )


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="reads Linux's list of threads")
@pytest.mark.slow
def test_a_killed_rank_ends_the_run_in_one_line_and_torchrun_goes_on(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    content = {
        "name": "tiny",
        "data": {"source": "synthetic:identities=6,images=4", "workers": 0},
        "model": {"name": "tiny_models:tiny_student"},
        "training": {"batch_size": 8, "epochs": 2, "device": "cpu", "checkpoint_every": 2, "log_every": 1},
    }
    recipe.write_text(json.dumps(content))
    environment = {**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", "1"]
    train = [str(HERE / "kill_a_rank.py"), str(tmp_path / "died"), "train", str(recipe), "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [*torchrun, *train], capture_output=True, text=True, timeout=590, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "died").exists()
    # Said once, by the rank that is left, with what is kept and how to go on.
    lines = [line for line in done.stderr.splitlines() if line.startswith("facekd:")]
    (line,) = lines
    assert "another process of this run ended, and without it rank 0 cannot go on" in line
    assert "the checkpoint of step 2 is intact" in line
    assert line.endswith("--resume")
    assert done.stderr.count("resumed at step 2 of 6") == 1
    assert "Traceback" not in done.stderr
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (result["finished"], result["step"], result["images"]) == (True, 6, 48)
    assert done.stdout.count(str(tmp_path / "out" / "bundle")) == 1
    # One that is left while the interpreter ends may abort the process.
    assert done.stdout.count("0 threads of gloo left") == 2
