"""The sweep for real: a small grid on drawn faces, killed with SIGKILL twice, against one that was not."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from facekd.cli import main
from facekd.common.errors import FacekdError, UsageError
from facekd.data.opening import load_verification_set
from facekd.evaluation.embedding import evaluate_verification
from facekd.evaluation.verification import VerificationResult
from facekd.models.bundle import load_bundle, save_bundle
from facekd.recipe import Recipe
from facekd.runtimes.opening import open_model
from facekd.sweep.sweep import run_sweep
from facekd.training.log import Reporter

HERE = Path(__file__).parent
FACES = "synthetic:identities=6,images=6"
PAIRS = "synthetic:identities=8,pairs=20"
STUDENT = {
    "name": "mobilefacenet",
    "arguments": {
        "scale": 0.25,
        "mid_multiplier": 0.125,
        "blocks": [1, 1, 1, 1],
        "feature_channels": 16,
        "embedding_width": 16,
    },
}
TEACHER = {
    "name": "tiny-teacher",
    "role": "teacher",
    "data": {"source": FACES, "workers": 0},
    "model": {
        "name": "swin_teacher",
        "arguments": {
            "patch_size": 8,
            "embed_dim": 16,
            "depths": [1, 1],
            "num_heads": [1, 2],
            "embedding_width": 16,
        },
    },
    "training": {"max_steps": 4, "batch_size": 6, "precision": "fp32", "channels_last": False},
}
BASE = {
    "name": "tiny-student",
    "data": {"source": FACES, "workers": 0},
    "model": STUDENT,
    "training": {
        "batch_size": 6,
        "precision": "fp32",
        "channels_last": False,
        "device": "cpu",
        "threads": 1,
        "checkpoint_every": 1,
        "log_every": 1,
    },
    "evaluation": {"report": [PAIRS]},
}
GRID = {
    "name": "tiny",
    "base": "base.yaml",
    "teacher": {"recipe": "", "set": ["training.threads=1"]},
    "budget": {"steps": 4},
    "seeds": [0, 1],
    "baseline": "undistilled",
    "methods": {
        "undistilled": {},
        "adadistill": {"head": {"weight": 0}, "distillation": [{"adadistill": {}}]},
    },
}


def write_grid(folder: Path, **changes: Any) -> Path:
    """The grid with its base and teacher recipe in `folder`."""
    folder.mkdir(exist_ok=True)
    (folder / "base.yaml").write_text(yaml.safe_dump(BASE, sort_keys=False), encoding="utf-8")
    (folder / "teacher.yaml").write_text(yaml.safe_dump(TEACHER, sort_keys=False), encoding="utf-8")
    content = json.loads(json.dumps(GRID | changes))
    for teacher in (content["teacher"], *content.get("teachers", {}).values()):
        if isinstance(teacher, dict):
            teacher["recipe"] = str(folder / "teacher.yaml")
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(grid, folder of its uninterrupted sweep)."""
    grid = write_grid(tmp_path_factory.mktemp("grid"))
    out = tmp_path_factory.mktemp("whole") / "out"
    run_sweep(grid, out=out, reporter=Reporter(quiet=True))
    return grid, out


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "compare.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_the_report_is_what_the_bundles_say(whole: tuple[Path, Path]) -> None:
    _, out = whole
    rows = rows_of(out)
    assert [(row["method"], row["seed"]) for row in rows] == [
        ("undistilled", "0"),
        ("adadistill", "0"),
        ("undistilled", "1"),
        ("adadistill", "1"),
    ]
    teacher = json.loads((out / "teacher.json").read_text())["accuracy"][PAIRS]
    undistilled = np.mean([float(row["accuracy"]) for row in rows if row["method"] == "undistilled"])
    for row in rows:
        card = load_bundle(out / "cells" / row["method"] / "mobilefacenet" / f"seed-{row['seed']}" / "bundle").card
        (accuracy,) = (metric for metric in card.metrics if metric.name == "accuracy")
        assert float(row["accuracy"]) == pytest.approx(accuracy.value, abs=1e-9)
        assert int(row["steps"]) == 4 and int(row["images"]) == 24 and float(row["ms_per_image"]) > 0
        assert (card.teacher is None) == (row["method"] == "undistilled")
        if teacher > undistilled:
            share = (float(row["accuracy"]) - undistilled) / (teacher - undistilled)
            assert float(row["share_of_gap_closed"]) == pytest.approx(share, abs=1e-5)
    assert {int(row["macs"]) for row in rows} == {card.macs}
    assert len({row["recipe_hash"] for row in rows}) == 4
    markdown = (out / "compare.md").read_text(encoding="utf-8")
    assert "Budget of each cell: 4 steps" in markdown and "4 of 4 cells finished" in markdown
    means = {name: np.mean([float(r["accuracy"]) for r in rows if r["method"] == name]) for name in GRID["methods"]}
    stds = {
        name: np.std([float(r["accuracy"]) for r in rows if r["method"] == name], ddof=1) for name in GRID["methods"]
    }
    for name, mean in means.items():
        assert f"| {name} | mobilefacenet | 2 | {mean:.2%} | {stds[name]:.2%} |" in markdown


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_killed_twice_it_goes_on_and_ends_in_the_same_figures(tmp_path: Path, whole: tuple[Path, Path]) -> None:
    _, uninterrupted = whole
    grid = write_grid(tmp_path / "grid", teacher=str(uninterrupted / "teacher" / "bundle"))
    out = tmp_path / "out"
    command = [sys.executable, str(HERE / "sweep_until_done.py"), str(grid), str(out), "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=580, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    kills = [json.loads(line) for line in done.stdout.splitlines()]
    assert [len(kill["finished"]) for kill in kills] == [1, 2]
    assert kills[0]["cut"] in kills[1]["finished"] and kills[1]["cut"] not in kills[1]["finished"]
    measured = {"ms_per_image", "finished"}
    for one, other in zip(rows_of(out), rows_of(uninterrupted), strict=True):
        assert {k: v for k, v in one.items() if k not in measured} == {
            k: v for k, v in other.items() if k not in measured
        }
    # A finished cell was left alone: its log ends before the next attempt's first line, and has each step once.
    for place in kills[0]["finished"]:
        stamp = (out / place / "cell.json").stat().st_mtime_ns
        assert stamp < (out / kills[0]["cut"] / "cell.json").stat().st_mtime_ns
        assert (out / place / "bundle" / "model.safetensors").stat().st_mtime_ns <= stamp
    # The one that was cut went on: its steps are all there, each once.
    steps = [json.loads(line) for line in (out / kills[0]["cut"] / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in steps if line["kind"] == "step"] == [1, 2, 3, 4]


def test_of_what_is_finished_the_figures_are_enough(
    whole: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """On another machine, without a weight: nothing runs again, and the report is the same."""
    grid, first = whole
    out = tmp_path / "elsewhere"
    for file in [first / "grid.json", *first.glob("**/cell.json"), first / "teacher.json"]:
        (out / file.relative_to(first)).parent.mkdir(parents=True, exist_ok=True)
        (out / file.relative_to(first)).write_bytes(file.read_bytes())
    before = rows_of(first)

    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("a finished cell was run again")

    monkeypatch.setattr("facekd.sweep.runner.run_recipe", refuse)
    monkeypatch.setattr("facekd.sweep.teachers.run_recipe", refuse)
    monkeypatch.setattr("facekd.sweep.teachers.evaluate_verification", refuse)
    monkeypatch.setattr(sys, "argv", ["facekd", "sweep", str(grid), "--out", str(out), "--json"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code in (0, None)
    told = json.loads(capfd.readouterr().out)
    assert told["finished"] == told["cells"] == 4
    assert rows_of(out) == before
    more = write_grid(tmp_path / "more", seeds=[0, 1, 2])
    with pytest.raises(UsageError, match=r"the teacher of this sweep is not at .*elsewhere/teacher/bundle"):
        run_sweep(more, out=out, reporter=Reporter(quiet=True))
    assert json.loads((out / "grid.json").read_text())["grid"]["seeds"] == [0, 1, 2]


def test_cells_that_another_sweep_has_run_are_taken(
    whole: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same recipe under another name, but not one with another seed, teacher, term or budget."""
    first = whole[1]
    ran: list[str] = []

    def refuse(recipe: Recipe, **options: object) -> None:
        ran.append(recipe.name)
        raise FacekdError("not here")

    monkeypatch.setattr("facekd.sweep.runner.run_recipe", refuse)
    judge = evaluate_verification
    judged: list[str] = []

    def judge_and_tell(embedder: Any, *rest: Any) -> VerificationResult:
        judged.append("a teacher")
        return judge(embedder, *rest)

    monkeypatch.setattr("facekd.sweep.teachers.evaluate_verification", judge_and_tell)
    methods = {
        "alone": {},
        "arc": {"head": {"weight": 0}, "distillation": [{"adadistill": {"variant": "arc"}}]},
        "cos": {"head": {"weight": 0}, "distillation": [{"adadistill": {"variant": "cos"}}]},
    }

    def taken(name: str, **changes: Any) -> list[dict[str, str]]:
        ran.clear()
        grid = write_grid(tmp_path / name, **{"methods": methods, "baseline": "alone", **changes})
        run_sweep(grid, out=tmp_path / name / "out", reuse=[first], reporter=Reporter(quiet=True))
        return rows_of(tmp_path / name / "out")

    bundle = str(first / "teacher" / "bundle")
    rows = taken("same", teacher=bundle, seeds=[0, 1, 2])
    assert [(row["method"], row["seed"]) for row in rows] == [
        ("alone", "0"),
        ("arc", "0"),
        ("alone", "1"),
        ("arc", "1"),
    ]
    renamed = {"undistilled": "alone", "adadistill": "arc"}
    assert not judged  # nor is the teacher's accuracy measured again
    kept = [json.loads((out / "teacher.json").read_text()) for out in (first, tmp_path / "same" / "out")]
    assert kept[0]["accuracy"] == kept[1]["accuracy"] != {}
    for row, original in zip(rows, rows_of(first), strict=True):
        assert row == original | {"method": renamed[original["method"]], "recipe_hash": row["recipe_hash"]}
    assert [name.removeprefix("tiny-") for name in ran] == [
        *("cos-mobilefacenet-seed-0", "cos-mobilefacenet-seed-1"),
        *(f"{method}-mobilefacenet-seed-2" for method in methods),
    ]
    changed = load_bundle(bundle)
    next(changed.model.parameters()).data.mul_(2)
    other = save_bundle(tmp_path / "other", changed.model, changed.card, head_centres=changed.head_centres)
    assert {row["method"] for row in taken("teacher", teacher=str(other))} == {"alone"}
    assert judged == ["a teacher"]
    with pytest.raises(FacekdError, match="no cell finished"):
        taken("budget", teacher=bundle, budget={"steps": 3})
    with pytest.raises(UsageError, match="holds no sweep"):
        run_sweep(whole[0], out=tmp_path / "none", reuse=[tmp_path], reporter=Reporter(quiet=True))
    with pytest.raises(UsageError, match="budget of minutes"):
        taken("minutes", teacher=bundle, budget={"minutes": 1})


@pytest.mark.skipif(os.name != "posix", reason="locks are POSIX locks")
def test_a_cell_that_another_process_is_at_is_left_to_it(tmp_path: Path, whole: tuple[Path, Path]) -> None:
    grid = write_grid(tmp_path / "grid", seeds=[0], teacher=str(whole[1] / "teacher" / "bundle"))
    out = tmp_path / "out"
    theirs = out / ".locks" / "cells" / "undistilled" / "mobilefacenet" / "seed-0"
    theirs.parent.mkdir(parents=True)
    hold = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); input()"
    command = [sys.executable, "-c", hold, str(theirs)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None and other.stdout is not None
        other.stdout.readline()
        done = run_sweep(grid, out=out, reporter=Reporter(quiet=True))
        assert [one.method for one in done.finished] == ["adadistill"]
        assert not (out / "cells" / "undistilled").exists()
        other.communicate("")
    done = run_sweep(grid, out=out, reporter=Reporter(quiet=True))
    assert [one.method for one in done.finished] == ["undistilled", "adadistill"]


def test_a_method_learns_from_the_teacher_that_it_names(tmp_path: Path, whole: tuple[Path, Path]) -> None:
    bundle = str(whole[1] / "teacher" / "bundle")
    second = {"recipe": "", "set": ["training.threads=1", "seed=1", "training.max_steps=1"]}
    methods = {
        "first": {"distillation": [{"embedding": {}}]},
        "second": {"teacher": "other", "distillation": [{"embedding": {}}]},
    }
    grid = write_grid(
        tmp_path / "grid", seeds=[0], baseline=None, teacher=bundle, teachers={"other": second}, methods=methods
    )
    out = tmp_path / "out"
    done = run_sweep(grid, out=out, reporter=Reporter(quiet=True))
    taught = {
        name: load_bundle(out / "cells" / name / "mobilefacenet" / "seed-0" / "bundle").card.teacher for name in methods
    }
    other = load_bundle(out / "teachers" / "other" / "bundle")
    assert taught["first"]["sha256"] == load_bundle(bundle).card.sha256
    assert taught["second"]["sha256"] == other.card.sha256 != taught["first"]["sha256"]
    accuracy = evaluate_verification(open_model(other.path), load_verification_set(PAIRS)).accuracy
    assert done.other_teachers == {"other": {PAIRS: accuracy}}
    assert f"| teacher other |  |  | {accuracy:.2%} |" in (out / "compare.md").read_text(encoding="utf-8")


def test_another_budget_needs_another_folder(tmp_path: Path, whole: tuple[Path, Path]) -> None:
    _, out = whole
    changed = write_grid(tmp_path / "changed", budget={"steps": 5}, teacher=str(out / "teacher" / "bundle"))
    with pytest.raises(UsageError, match=r"is finished, of another recipe: .*training.max_steps was 4, is now 5"):
        run_sweep(changed, out=out, reporter=Reporter(quiet=True))


def test_a_cell_that_fails_is_told_and_the_others_run(
    tmp_path: Path, whole: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    diverging = {"head": {"weight": 1}, "optimisation": {"lr": 1e30, "clip_norm": None}}
    grid = write_grid(
        tmp_path / "failing",
        methods={"diverging": diverging, "undistilled": {}},
        seeds=[0],
        teacher=str(whole[1] / "teacher" / "bundle"),
    )
    out = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["facekd", "sweep", str(grid), "--out", str(out)])
    with pytest.raises(SystemExit) as stop:
        main()
    told = capfd.readouterr()
    assert stop.value.code == 1
    assert "1 of 2 cells failed, the first (diverging, mobilefacenet, seed 0)" in told.err
    assert [row["method"] for row in rows_of(out)] == ["undistilled"]
    assert "| diverging | mobilefacenet | 0 | failed: step" in (out / "compare.md").read_text(encoding="utf-8")


def test_minutes_become_steps_once(tmp_path: Path, whole: tuple[Path, Path]) -> None:
    grid = write_grid(
        tmp_path / "minutes",
        budget={"minutes": 0.002},
        methods={"undistilled": {}},
        seeds=[0],
        teacher=str(whole[1] / "teacher" / "bundle"),
    )
    out = tmp_path / "out"
    first = run_sweep(grid, out=out, reporter=Reporter(quiet=True))
    folder = out / "cells" / "undistilled" / "mobilefacenet" / "seed-0"
    plan = json.loads((folder / "plan.json").read_text())
    assert plan["steps"] == max(1, round(60 * 0.002 * plan["images_per_second"] / 6))
    assert first.finished[0].steps == plan["steps"]
    assert not (folder / "pace").exists()
    again = run_sweep(grid, out=out, reporter=Reporter(quiet=True))  # no other pace is measured
    assert again.finished == first.finished


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    grid = write_grid(tmp_path / "grid")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(UsageError, match=r"holds 'thesis.tex' and no sweep"):
        run_sweep(grid, out=tmp_path / "full", reporter=Reporter(quiet=True))
