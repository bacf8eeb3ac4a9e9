"""A recipe from its data to a bundle: a distilled student, a teacher, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from facekd.common.errors import FacekdError, UsageError
from facekd.distillation.build import build_task
from facekd.models.bundle import load_bundle, load_teacher
from facekd.recipe import Recipe, load_recipe
from facekd.training.log import Reporter
from facekd.training.run import RunResult, open_recipe_source, run_recipe

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def tiny() -> Any:
    """The tiny models, importable and trusted under the dotted path that the recipe has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE))
        patch.setenv("FACEKD_TRUSTED_MODULES", "tiny_models")
        import tiny_models

        yield tiny_models


@pytest.fixture(scope="module")
def teacher(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_teacher(tmp_path_factory.mktemp("teacher") / "bundle")


def content_of(tiny: Any, teacher: Path, **training: Any) -> dict[str, Any]:
    content = tiny.recipe_content(teacher, **{"epochs": 2, "ema": None, **training})
    content["data"]["workers"] = 0
    return content


def go(content: dict[str, Any], out: Path, **options: Any) -> RunResult:
    return run_recipe(Recipe.model_validate(content), out=out, reporter=Reporter(quiet=True), **options)


@pytest.fixture(scope="module")
def distilled(tiny: Any, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunResult, Path]:
    out = tmp_path_factory.mktemp("distilled") / "out"
    content = content_of(tiny, teacher)
    content["evaluation"] = {
        "dev": "synthetic:identities=6,pairs=40",
        "report": ["synthetic:identities=6,pairs=60,seed=5"],
        "teacher": True,
    }
    return go(content, out), out


def test_the_bundle_is_the_chosen_student_and_nothing_more(distilled: tuple[RunResult, Path], tiny: Any) -> None:
    result, out = distilled
    assert result.finished
    assert result.step == result.total_steps == 6
    bundle = load_bundle(out / "bundle")
    assert bundle.model.state_dict().keys() == tiny.tiny_student().state_dict().keys()
    assert bundle.card.kind == "student"
    assert bundle.card.teacher is not None
    assert bundle.card.teacher["name"] == "tiny"
    training = bundle.card.training
    assert training is not None
    assert training["data"]["images"] == 48
    assert training["recipe"]["seed"] == 3
    assert training["chosen_step"] == result.chosen_step
    saved = [torch.load(path, weights_only=True) for path in (out / "checkpoints").glob("step-*.pt")]
    (chosen,) = [state for state in saved if state["progress"]["step"] == result.chosen_step]
    for name, value in bundle.model.state_dict().items():
        assert torch.equal(value, chosen["task"][f"student.{name}"])
    assert not any("teacher.teacher." in name for name in chosen["task"])


def test_the_result_says_what_was_measured_on_what(distilled: tuple[RunResult, Path]) -> None:
    result, out = distilled
    written = json.loads((out / "result.json").read_text())
    card = load_bundle(out / "bundle").card
    assert result.dev is not None
    assert result.teacher is not None
    assert written["dev"]["accuracy"] == result.dev.accuracy
    assert written["teacher_dev"]["accuracy"] == result.teacher.accuracy
    (report,) = result.report.values()
    accuracies = [metric.value for metric in card.metrics if metric.name == "accuracy"]
    assert accuracies == [result.dev.accuracy, report.accuracy]
    assert {t.far: t.threshold_cos for t in card.thresholds} == pytest.approx(result.dev.threshold_cos)
    evaluations = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    by_step = {line["step"]: line["accuracy"] for line in evaluations if line["kind"] == "evaluation"}
    assert by_step[result.chosen_step] == max(by_step.values()) == result.dev.accuracy
    steps = [line for line in evaluations if line["kind"] == "step"]
    assert {"loss", "identity", "urfm.attention", "urfm.feature", "teacher.embedding"} <= steps[-1]["parts"].keys()
    assert {"urfm.std", "urfm.effective_rank"} <= steps[-1]["diagnostics"].keys()


def test_the_teacher_is_not_trained(tiny: Any, teacher: Path, tmp_path: Path) -> None:
    recipe = Recipe.model_validate(content_of(tiny, teacher, max_steps=2))
    task = build_task(recipe, open_recipe_source(recipe.data))
    from facekd.training.run import run

    run(recipe, task, open_recipe_source(recipe.data), out=tmp_path, reporter=Reporter(quiet=True))
    before, after = load_bundle(teacher).model.state_dict(), task.teacher.teacher.state_dict()
    assert all(torch.equal(before[name], value) for name, value in after.items())
    assert not any(module.training for module in task.teacher.modules())


def test_a_teacher_is_trained_to_a_bundle_with_its_head(tiny: Any, teacher: Path, tmp_path: Path) -> None:
    content = content_of(tiny, teacher, max_steps=3)
    content |= {"role": "teacher", "model": {"name": "swin_teacher", "arguments": tiny.TEACHER}, "distillation": []}
    del content["teacher"]
    go(content, tmp_path / "out")
    bundle = load_teacher(tmp_path / "out" / "bundle")
    assert bundle.head_centres is not None
    assert bundle.head_centres.shape == (6, 16)
    assert bundle.card.head is not None
    assert bundle.card.head.labels == open_recipe_source(Recipe.model_validate(content).data).fingerprint()
    student = content_of(tiny, tmp_path / "out" / "bundle", max_steps=1)
    student["distillation"] = [{"urfm": {"local_centres": 4, "width": 16, "heads": 2}}, {"apt": {"keep": "head"}}]
    assert "teacher.identity" in json.dumps(
        [
            json.loads(line)
            for line in (go(student, tmp_path / "s").path.with_name("log.jsonl")).read_text().splitlines()
        ]
    )


def test_a_finished_run_resumes_to_the_same_bundle(tiny: Any, teacher: Path, tmp_path: Path) -> None:
    content = content_of(tiny, teacher, max_steps=2)
    first = go(content, tmp_path / "out")
    weights = (first.bundle / "model.safetensors").read_bytes()
    second = go(content, tmp_path / "out", resume=True)
    assert (second.bundle / "model.safetensors").read_bytes() == weights
    assert second.step == second.total_steps == 2


def test_out_is_guarded(tiny: Any, teacher: Path, tmp_path: Path) -> None:
    content = content_of(tiny, teacher, max_steps=1)
    go(content, tmp_path / "out")
    with pytest.raises(UsageError, match=r"not empty .*--resume or --overwrite"):
        go(content, tmp_path / "out")
    with pytest.raises(UsageError, match="contradict"):
        go(content, tmp_path / "out", resume=True, overwrite=True)
    (tmp_path / "out" / "thesis.tex").touch()
    with pytest.raises(UsageError, match=r"'thesis\.tex', which facekd did not write"):
        go(content, tmp_path / "out", overwrite=True)
    (tmp_path / "out" / "thesis.tex").unlink()
    assert go(content, tmp_path / "out", overwrite=True).step == 1
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file"):
        go(content, tmp_path / "file")
    with pytest.raises(FacekdError, match="cannot write to --out"):
        go(content, tmp_path / "file" / "below")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"source": "nowhere/train.rec"}}, "no data at nowhere/train.rec"),
        ({"data": {"source": "synthetic:identities=1,images=9"}}, "1 identity"),
        ({"model": {"name": "mobilefacenett"}}, "did you mean 'mobilefacenet'"),
        ({"evaluation": {"dev": "nowhere.bin"}}, "nowhere.bin"),
        ({"evaluation": {"report": ["nowhere.bin"]}}, "nowhere.bin"),
        ({"teacher": {"bundle": "nowhere"}}, "nowhere"),
    ],
)
def test_what_is_missing_is_said_before_the_training(
    tiny: Any, teacher: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        go({**content_of(tiny, teacher), **change}, tmp_path / "out")
    assert not (tmp_path / "out" / "checkpoints").exists()


def test_a_teacher_that_is_not_there_is_said_before_anything_is_made(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("facekd.training.run.open_recipe_source", lambda data: pytest.fail("the data are opened"))
    for settings, advice in (
        ([], r"give --teacher, or run `facekd quickstart` first"),
        (["teacher.bundle=elsewhere"], r"at elsewhere, the recipe's teacher: give --teacher$"),
    ):
        with pytest.raises(UsageError, match=advice):
            run_recipe(load_recipe("quickstart-distilled", settings), out=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_the_teacher_is_checked_once_before_training_and_not_at_resume(
    tiny: Any, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def problem(found: object, config: Any, source: object, **given: object) -> str | None:
        asked.append(config.trust_input)
        return None if config.trust_input else "teacher: fed otherwise than it was trained"

    monkeypatch.setattr("facekd.training.run.teacher_problem", problem)
    content = content_of(tiny, teacher, max_steps=2, checkpoint_every=1)
    with pytest.raises(UsageError, match="fed otherwise"):
        go(content, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir()) and asked == [False]
    content["teacher"]["trust_input"] = True
    go(content, tmp_path / "out")
    assert asked == [False, True]
    content["teacher"]["trust_input"] = False  # a field that a resumed run may change
    go(content, tmp_path / "out", resume=True)
    assert asked == [False, True]
