"""The end of a run: the chosen weights evaluated, the bundle with its card, result.json."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from facekd.common.writing import atomic_file
from facekd.data.source import Source
from facekd.data.verification_set import VerificationSet
from facekd.distillation.task import DistillationTask
from facekd.evaluation.embedding import evaluate_verification
from facekd.evaluation.verification import VerificationResult
from facekd.models.bundle import save_bundle
from facekd.models.describe import describe
from facekd.models.embedder import ModelEmbedder
from facekd.recipe import Recipe
from facekd.schemas.card import Card, HeadCard, Metric, Threshold
from facekd.schemas.input_spec import InputSpec
from facekd.training.log import Reporter
from facekd.training.loop_result import LoopResult
from facekd.training.reproducibility import preserved_random_state

_PROTOCOL = "verification, {}, unrestricted with labelled outside data, flip-summed embeddings"


@dataclass(frozen=True)
class RunResult:
    """What a run ended with.

    Attributes:
        bundle: the trained model's bundle.
        step, total_steps: optimiser steps done, and those of the whole budget.
        chosen_step: the step of the weights in the bundle.
        dev: the chosen weights on the dev pairs; None without dev pairs.
        report: the chosen weights on each report set.
        teacher: a teacher that learnt on the dev pairs, as it was in the chosen step.
        images_per_second: of the training, over the whole run.
        path: result.json, which holds all of this.
    """

    bundle: Path
    step: int
    total_steps: int
    chosen_step: int
    dev: VerificationResult | None
    report: dict[str, VerificationResult]
    teacher: VerificationResult | None
    images_per_second: float
    path: Path

    @property
    def finished(self) -> bool:
        """Whether the whole budget was spent; `max_minutes` may end a session before."""
        return self.step >= self.total_steps


def finish(
    recipe: Recipe,
    task: DistillationTask,
    source: Source,
    loop: LoopResult,
    *,
    out: Path,
    dev: VerificationResult | None,
    pairs: Mapping[str, VerificationSet],
    reporter: Reporter,
) -> RunResult:
    """Evaluates the chosen weights, which `task` carries, and writes the bundle and result.json; `dev` is theirs."""
    spec = task.student_input
    with preserved_random_state():
        report = {name: verify(task.student, spec, pairs[name]) for name in recipe.evaluation.report}
        teacher = task.learning_teacher
        teacher_result = None
        if teacher is not None and recipe.evaluation.dev is not None and recipe.evaluation.teacher:
            teacher_result = verify(teacher, teacher.input, pairs[recipe.evaluation.dev])
    task.to("cpu")
    card = _card(recipe, task, source, loop, dev, report, pairs)
    centres = task.head.centres.detach() if card.head is not None and task.head is not None else None
    bundle = save_bundle(out / "bundle", task.student, card, head_centres=centres, overwrite=True)
    seconds = loop.progress.seconds
    result = RunResult(
        bundle=bundle,
        step=loop.progress.step,
        total_steps=loop.total_steps,
        chosen_step=loop.chosen_step,
        dev=dev,
        report=report,
        teacher=teacher_result,
        images_per_second=loop.progress.images / seconds if seconds else 0.0,
        path=out / "result.json",
    )
    with atomic_file(result.path, overwrite=True) as file:
        file.write((json.dumps(to_dict(recipe, result, loop), indent=2) + "\n").encode())
    for one in report.values():
        for note in [*one.set_notes, *([one.too_close] if one.too_close else [])]:
            reporter.warn(f"{one.name}: {note}")
    reporter.say(f"bundle: {bundle}")
    return result


def to_dict(recipe: Recipe, result: RunResult, loop: LoopResult | None = None) -> dict[str, Any]:
    """A run's result as plain types for JSON."""
    figures: dict[str, Any] = {
        "recipe": recipe.name,
        "finished": result.finished,
        "step": result.step,
        "total_steps": result.total_steps,
        "chosen_step": result.chosen_step,
        "dev": result.dev.to_dict() if result.dev else None,
        "report": {name: one.to_dict() for name, one in result.report.items()},
        "teacher_dev": result.teacher.to_dict() if result.teacher else None,
        "images_per_second": result.images_per_second,
        "bundle": str(result.bundle),
        "log": str(result.path.with_name("log.jsonl")),
    }
    if loop is not None:
        figures |= {
            "precision": loop.precision.describe(),
            "device": str(loop.precision.device),
            "seconds": loop.progress.seconds,
            "images": loop.progress.images,
            "broken": loop.progress.broken,
            "skipped_steps": loop.progress.skipped,
        }
    return figures


def verify(model: nn.Module, spec: InputSpec, pairs: VerificationSet) -> VerificationResult:
    """A model on a set of pairs; the random state stays as it was."""
    return evaluate_verification(ModelEmbedder(model, spec), pairs)


def _card(
    recipe: Recipe,
    task: DistillationTask,
    source: Source,
    loop: LoopResult,
    dev: VerificationResult | None,
    report: Mapping[str, VerificationResult],
    pairs: Mapping[str, VerificationSet],
) -> Card:
    results = [(recipe.evaluation.dev, dev), *report.items()]
    metrics = [metric for name, one in results if one and name for metric in _metrics(one, pairs[name])]
    thresholds = []
    if dev is not None and recipe.evaluation.dev is not None:
        name = pairs[recipe.evaluation.dev].name
        thresholds = [Threshold(far=f, threshold_cos=value, dataset=name) for f, value in dev.threshold_cos.items()]
    head = None
    if recipe.role == "teacher" and task.head is not None:
        head = HeadCard(
            name=recipe.head.name,
            arguments=recipe.head.arguments,
            num_identities=source.num_identities,
            labels=source.fingerprint(),
        )
    return describe(
        task.student,
        kind=recipe.role,
        name=recipe.name,
        architecture=recipe.model.name,
        arguments=recipe.model.arguments,
        input_spec=task.student_input,
        training={
            "data": {
                "name": source.name,
                "fingerprint": source.fingerprint(),
                "images": len(source),
                "identities": source.num_identities,
            },
            "recipe": recipe.model_dump(mode="json"),
            "seed": recipe.seed,
            "steps": loop.progress.step,
            "total_steps": loop.total_steps,
            "chosen_step": loop.chosen_step,
            "images_seen": loop.progress.images,
            "precision": loop.precision.describe(),
            "device": str(loop.precision.device),
        },
        teacher={"name": task.origin.name, "sha256": task.origin.sha256} if task.origin else None,
        metrics=metrics,
        thresholds=thresholds,
        head=head,
    )


def _metrics(result: VerificationResult, pairs: VerificationSet) -> list[Metric]:
    fingerprint = pairs.fingerprint()

    def metric(name: str, value: float, std: float | None = None, far: float | None = None) -> Metric:
        return Metric(
            dataset=pairs.name,
            protocol=_PROTOCOL.format(result.protocol),
            name=name,
            value=value,
            std=std,
            far=far,
            fingerprint=fingerprint,
        )

    rates = [metric("tar", tar, far=far) for far, tar in result.tar_at_far.items()]
    return [metric("accuracy", result.accuracy, std=result.std), *rates]
