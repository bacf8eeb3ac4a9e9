"""The plan of a training on many devices, beside what steps really allocate, and its arithmetic."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from facekd.cli import _register, app
from facekd.common.errors import UsageError
from facekd.data.sources.synthetic import SyntheticSource
from facekd.distillation.build import build_task
from facekd.planning import measured
from facekd.planning.measured import measure_network, measure_pace
from facekd.planning.plan import memory_of, plan
from facekd.recipe import Recipe
from facekd.training.precision import Measurement, Precision

HERE = Path(__file__).parent
TINY = "tiny_models:tiny_student"


@pytest.fixture(autouse=True)
def _beside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.syspath_prepend(str(HERE / "training"))


def made(model: str, batch: int, *, optimiser: str = "sgd", rate: float = 1.0, **training: Any) -> Recipe:
    content = {
        "name": "x",
        "data": {"source": "-"},
        "model": {"name": model},
        "head": {"sample_rate": rate},
        "optimisation": {"optimiser": optimiser},
        "training": {"batch_size": batch, "precision": "fp32", "channels_last": False, "device": "cpu", **training},
    }
    return Recipe.model_validate(content)


@pytest.mark.parametrize(
    ("recipe", "identities"),
    [
        (made("mobilefacenet", 4), 1000),  # activations
        (made(TINY, 16, optimiser="adamw"), 20_000),  # logits and centres
        (made(TINY, 32, rate=0.5), 20_000),
        (made(TINY, 32, accumulation=2), 20_000),
        (made(TINY, 4, optimiser="adamw", rate=0.1), 60_000),  # centres and their optimiser
    ],
)
def test_memory_is_within_a_tenth_of_what_steps_allocate(recipe: Recipe, identities: int) -> None:
    from planned_memory import planned_and_measured

    planned, allocated = planned_and_measured(recipe, identities)
    assert planned == pytest.approx(allocated, rel=0.1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the ranks are forks")
def test_memory_of_two_ranks_is_within_a_tenth_too(tmp_path: Path) -> None:
    recipes = [tmp_path / "whole.yaml", tmp_path / "sampled.yaml"]
    for path, rate in zip(recipes, (1.0, 0.2), strict=True):
        path.write_text(json.dumps(made(TINY, 32, rate=rate).model_dump(mode="json")))
    command = [sys.executable, str(HERE / "planned_memory.py"), "40000", *map(str, recipes)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = [[int(word) for word in line.split()] for line in done.stdout.splitlines()]
    assert len(found) == 4
    for planned, allocated in found:
        assert planned == pytest.approx(allocated, rel=0.1)


def test_shards_and_samples_shrink_what_they_should() -> None:
    recipe = made(TINY, 64)
    one = plan(recipe, gpus=1, identities=1_000_000, images=64_000)
    eight = plan(recipe, gpus=8, identities=1_000_000, images=64_000, images_per_second=100.0)
    assert eight.memory.centres == 1_000_000 // 8 * 16 * 4 == one.memory.centres // 8
    assert eight.memory.centres_optimiser == eight.memory.centres  # SGD: one momentum each
    assert (eight.batch, eight.steps_per_epoch, one.steps_per_epoch) == (8, 1000, 1000)
    assert (one.images_per_second, eight.images_per_second) == (None, 800.0)
    assert one.communication == {}
    weights = sum(
        parameter.numel() for parameter in build_task(recipe, SyntheticSource(identities=2)).student.parameters()
    )
    assert eight.communication["gradients"] == 2 * 7 * weights * 4 // 8
    assert eight.communication["embeddings"] == 7 * 8 * 16 * 4  # the rows that it sends round the ring
    sent = sum(eight.communication.values())
    assert eight.link_bytes_per_second == pytest.approx(sent * 800 / 64)  # 64 images a step


def test_the_sample_rate_is_the_largest_that_fits() -> None:
    recipe = made(TINY, 512)
    found = plan(recipe, gpus=1, identities=2_000_000, images=10_000, gpu_memory=(1, 2, 100))
    network = measure_network(recipe)

    def total(rate: float) -> int:
        return memory_of(recipe, network, gpus=1, identities=2_000_000, batch=512, sample_rate=rate).total

    assert found.sample_rates[100] == 1.0
    rate = found.sample_rates[2]
    assert rate is not None
    assert total(rate) <= 0.9 * 2e9 < total(rate + 0.001)
    # The centres alone are more than there is.
    assert plan(recipe, gpus=1, identities=9_000_000, images=10_000, gpu_memory=(1,)).sample_rates == {1: None}


def test_stored_outputs_are_planned_as_they_are_stored(tmp_path: Path) -> None:
    """Bytes beside a cache of the same faces; the pace is of a step in which no teacher runs."""
    import tiny_models

    from facekd.distillation.fill_cache import fill_cache

    content: Any = tiny_models.recipe_content(tiny_models.save_teacher(tmp_path / "teacher"))
    content["distillation"] = [content["distillation"][0], {"embedding": {}}]
    content["data"]["workers"] = 0
    recipe, source = Recipe.model_validate(content), SyntheticSource(identities=6, images=8)
    found = plan(recipe, gpus=1, identities=6, images=len(source), recalled_images_per_second=7.0)
    assert found.recalled_images_per_second == 7.0
    for name, tokens in (("embeddings", "none"), ("embeddings, tokens in int8", "int8")):
        card = fill_cache(recipe, source, tmp_path / tokens, tokens=tokens, batch_size=16).cache.card  # type: ignore[arg-type]
        arrays = list((tmp_path / tokens).glob("*.npy"))
        assert found.teacher_cache[name] == card.bytes == sum(file.stat().st_size - 128 for file in arrays)
    assert measure_pace(recipe, gpus=1, identities=6, recalled=True) > 0
    learning = {**content, "distillation": [*content["distillation"], {"apt": {"prompts": 1, "keep": "none"}}]}
    assert plan(Recipe.model_validate(learning), gpus=1, identities=6, images=48).teacher_cache == {}


def test_half_the_bits_are_planned_where_the_recipe_leaves_the_format_to_a_gpu() -> None:
    on_gpu = made("mobilefacenet", 4, precision="auto", device="auto")
    on_cpu = made("mobilefacenet", 4, precision="auto", device="cpu")
    found = {one.precision: one.memory for one in (plan(r, gpus=1, identities=9, images=99) for r in (on_gpu, on_cpu))}
    assert 0.4 < found["bf16"].activations / found["fp32"].activations < 0.8
    assert found["bf16"].weights == found["fp32"].weights


def test_the_pace_counts_the_centres_of_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    def timed(seconds: float) -> Any:
        def fake(options: list[Precision], module: Any, *work: Any) -> list[Measurement]:
            if callable(work[0]):
                work[0](options[0])  # the head's own work is really done, once
                assert module.centres.grad is not None and len(module.centres) == 16_384
            return [Measurement(options[0], seconds)]

        return fake

    monkeypatch.setattr(measured, "fastest_training", timed(1.0))
    monkeypatch.setattr(measured, "fastest", timed(0.5))
    # 1 s for the network; 0.5 s for 16,384 centres, of which a device has four times as many.
    assert measure_pace(made(TINY, 64), gpus=2, identities=8 * 16_384) == pytest.approx(32 / (1 + 4 * 0.5))


@pytest.mark.parametrize(
    ("gpus", "identities", "images", "message"),
    [(3, 100, 100, "must give each"), (0, 100, 100, "of all 0"), (8, 4, 100, "at least 8"), (1, 100, 63, "of 64")],
)
def test_what_cannot_be_planned_is_one_line(gpus: int, identities: int, images: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan(made(TINY, 64), gpus=gpus, identities=identities, images=images)


def test_the_verb_prints_a_table_or_json(tmp_path: Path) -> None:
    if not app.registered_commands:
        _register()
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps(made(TINY, 64).model_dump(mode="json")))

    def call(*options: str) -> Any:
        arguments = ["plan", str(recipe), "--gpus", "4", "--identities", "1000", "--images", "64000", *options]
        return CliRunner().invoke(app, arguments)

    table = call("--images-per-second", "50")
    assert table.exit_code == 0, table.output
    assert "sample rate for 141 GB" in table.output
    assert "200 images/s" in table.output and "0.1 h an epoch" in table.output
    assert "images/s" not in call().output
    found = json.loads(call("--gpu-memory", "1,2", "--measure", "--json").stdout)
    assert found["sample_rates"] == {"1": 1.0, "2": 1.0}
    assert found["images_per_second"] > 0
    assert found["memory"]["total"] > sum(found["memory"][name] for name in ("weights", "centres", "activations"))
    assert "give one" in str(call("--measure", "--images-per-second", "5").exception)
    assert "whole GB" in str(call("--gpu-memory", "24GB").exception)
