"""Interleaved comparison, on two scripted models that share a noisy machine."""

import json
from pathlib import Path

import numpy as np
import pytest

from facekd.benchmarks.compare import ComparePlan, PairedComparison, Ratio, interleave, read_comparisons, verdict
from facekd.benchmarks.statistics import ratio_interval
from facekd.common.errors import FacekdError, UsageError
from facekd.schemas.record import append_record


class Machine:
    """Its speed wanders: every turn, of whichever model, is slowed by the factor of the moment."""

    def __init__(self, seed: int) -> None:
        self.generator = np.random.default_rng(seed)
        self.factor = 1.0
        self.order: list[str] = []
        self.now = 0.0

    def model(self, name: str, milliseconds: float):  # type: ignore[no-untyped-def]
        def turn(runs: int) -> tuple[list[float], list[float]]:
            self.order.append(name)
            self.factor = float(np.clip(self.factor * self.generator.lognormal(0, 0.05), 1, 8))
            wall = milliseconds * self.factor * self.generator.lognormal(0, 0.02, runs)
            self.now += float(wall.sum()) / 1e3
            return list(wall), [milliseconds] * runs

        return turn


def test_rounds_alternate_and_find_the_true_ratio() -> None:
    machine = Machine(0)
    plan = ComparePlan(interval=0.02, duration_s=1e9)
    found = interleave(machine.model("A", 2.0), machine.model("B", 3.0), plan, clock=lambda: machine.now)
    measured = machine.order[-2 * len(found.wall[0]) :]
    assert measured == ["A", "B"] * len(found.wall[0])
    ratio, low, high = ratio_interval(found.wall[1], found.wall[0])
    assert low <= 1.5 <= high
    assert (high - low) / ratio <= 0.02
    assert len(found.wall[0]) >= plan.min_rounds
    assert np.median(found.cpu[1]) / np.median(found.cpu[0]) == pytest.approx(1.5)
    # Both turns last about as long, whatever the speeds.
    assert found.runs[0] / found.runs[1] == pytest.approx(1.5, rel=0.5)


def test_equal_models_are_not_told_apart() -> None:
    claims = 0
    for seed in range(8):
        machine = Machine(seed)
        plan = ComparePlan(interval=0, max_rounds=40)
        found = interleave(machine.model("A", 2.0), machine.model("B", 2.0), plan, clock=lambda m=machine: m.now)
        ratio, low, high = ratio_interval(found.wall[1], found.wall[0], resamples=500)
        claims += Ratio(ratio=ratio, low=low, high=high).shown
    assert claims <= 2  # 0.4 expected of 8; three or more would happen once in 170 times


def test_bounds() -> None:
    machine = Machine(1)
    plan = ComparePlan(interval=0, duration_s=3, max_rounds=10_000)
    found = interleave(machine.model("A", 2.0), machine.model("B", 2.0), plan, clock=lambda: machine.now)
    assert plan.min_rounds <= len(found.wall[0]) < 10_000


def test_verdict_claims_no_more_than_the_interval() -> None:
    faster, slower = Ratio(ratio=2, low=1.9, high=2.1), Ratio(ratio=0.5, low=0.4, high=0.625)
    unclear = Ratio(ratio=1.3, low=0.9, high=1.8)
    assert verdict("A", "B", faster, slower, share=1, threads=1).startswith("A is 2.000 times as fast as B (")
    said = verdict("A", "B", slower, faster, share=1, threads=1)
    assert said == "B is 2.000 times as fast as A (95 % interval 1.600 to 2.500)"
    assert "no difference" in verdict("A", "B", unclear, faster, share=1, threads=1)


def test_a_starved_comparison_does_not_claim_by_wall_time() -> None:
    faster, unclear = Ratio(ratio=2, low=1.9, high=2.1), Ratio(ratio=1.3, low=0.9, high=1.8)
    said = verdict("A", "B", faster, unclear, share=0.1, threads=1)
    assert said.startswith("no difference between A and B is shown by processor time")
    assert "10 % of the time" in said
    assert verdict("A", "B", unclear, faster, share=0.1, threads=1).startswith("A is 2.000 times as fast as B by proc")
    assert verdict("A", "B", faster, faster, share=0.1, threads=2).startswith("no claim")


def test_comparisons_come_back_as_they_went(tmp_path: Path, comparison: PairedComparison) -> None:
    path = tmp_path / "compared.jsonl"
    append_record(path, comparison)
    line = comparison.model_dump(mode="json")
    del line["schema_version"]  # as lines were before they had one
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")
    assert read_comparisons(path) == [comparison] * 2
    path.write_text(path.read_text() + "{}\n")
    with pytest.raises(FacekdError, match=r"compared\.jsonl, line 3 is not a comparison"):
        read_comparisons(path)
    with pytest.raises(UsageError, match="does not exist"):
        read_comparisons(tmp_path / "none.jsonl")
