"""From a recipe to its task: the networks, heads and terms it names, checked against one another."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from facekd.common.errors import UsageError
from facekd.data.source import Source
from facekd.distillation.parts import check_widths
from facekd.distillation.prompting import AptSettings, PromptedTeacher
from facekd.distillation.registry import Shapes, Term, check_term, find_term
from facekd.distillation.task import Task, TeacherOrigin
from facekd.distillation.teacher import CnnTeacher, OnnxTeacher
from facekd.heads import MarginHead, create_head
from facekd.models.bundle import Bundle, load_teacher
from facekd.models.registry import Backbone, create_model
from facekd.models.transformer import TransformerTeacher
from facekd.recipe import Recipe
from facekd.schemas.input_spec import InputSpec


def build_task(recipe: Recipe, source: Source) -> Task:
    """The task that a recipe describes, on the identities of `source`.

    Raises:
        UsageError: what the recipe names does not fit together: no teacher for a term that needs one, a teacher of
            another embedding width, a head of other identities, an input size the teacher does not take.
    """
    student_input = InputSpec()
    student = create_model(recipe.model.name, **recipe.model.arguments)
    settings = {name: check_term(name, values) for entry in recipe.distillation for name, values in entry.items()}
    apt = cast(AptSettings | None, settings.get("apt"))
    if settings and recipe.teacher is None:
        raise UsageError(f"distillation by {', '.join(settings)} needs a teacher: give --teacher or teacher.bundle")

    teacher: PromptedTeacher | CnnTeacher | OnnxTeacher | None = None
    bundle: Bundle | None = None
    teacher_input = origin = None
    inherits = recipe.head.init == "teacher" and recipe.head.weight > 0
    if recipe.teacher is not None and not settings and inherits:
        # Only its class centres are inherited (ProxylessKD): nothing of the teacher runs.
        bundle = _bundle_with_head(Path(recipe.teacher.bundle))
        origin = TeacherOrigin(bundle.card.name, bundle.card.sha256)
    if recipe.teacher is not None and settings:
        path = Path(recipe.teacher.bundle)
        if path.suffix == ".onnx":
            if apt is not None:
                raise UsageError(f"apt needs a Transformer teacher bundle, {path} is an ONNX file")
            teacher = OnnxTeacher(path)
            origin = TeacherOrigin(path.stem, teacher.sha256)
        else:
            bundle = load_teacher(path)
            teacher_input = bundle.card.input
            teacher = _frozen(bundle, apt, student)
            origin = TeacherOrigin(bundle.card.name, bundle.card.sha256)
            if teacher_input.size != student_input.size:
                raise UsageError(f"teacher {path} takes {teacher_input.size} images, the student {student_input.size}")

    head = _student_head(recipe, source, student, bundle)
    keeps = apt is not None and apt.prompts > 0 and apt.keep == "head" and apt.keep_weight > 0
    readers = [name for name in settings if getattr(find_term(name).build, "needs_teacher_classifier", False)]
    if readers and bundle is None:
        raise UsageError(f"{readers[0]} reads the teacher's classes: give a teacher bundle with its head")
    teacher_head = None
    if bundle is not None and (keeps or readers):
        teacher_head = _teacher_head(bundle, source, why="apt.keep = head" if keeps else readers[0])
    terms = _build_terms(settings, student, teacher, identities=source.num_identities)
    for name, term in terms.items():
        if term.needs_student_classifier and head is None:
            raise UsageError(f"{name} compares the student's own classes: head.weight must be above 0")
        if term.needs_pairs:
            _check_pairs(name, recipe, source)
    return Task(
        student=student,
        student_input=student_input,
        head=head,
        head_weight=recipe.head.weight,
        recipe=recipe,
        teacher=teacher,
        teacher_input=teacher_input,
        teacher_head=teacher_head,
        apt=apt,
        terms=terms,
        origin=origin,
    )


def _frozen(bundle: Bundle, apt: AptSettings | None, student: nn.Module) -> PromptedTeacher | CnnTeacher:
    if isinstance(bundle.model, TransformerTeacher):
        if apt is None:
            return PromptedTeacher(bundle.model, prompts=0)
        if apt.adaptation_weight:
            check_widths("apt.adaptation_weight", getattr(student, "embedding_width", 0), bundle.model.embedding_width)
        return PromptedTeacher(bundle.model, prompts=apt.prompts, every=apt.every, attention_bias=apt.attention_bias)
    if apt is not None:
        raise UsageError(
            f"apt: prompts need a Transformer teacher, {bundle.path} is a {type(bundle.model).__name__}; leave apt out"
        )
    return CnnTeacher(bundle.model)


def _check_pairs(name: str, recipe: Recipe, source: Source) -> None:
    """Raises UsageError where batches drawn at random hold, on average, less than one pair of one identity."""
    if recipe.data.images_per_identity is not None:
        return
    counts = np.bincount(source.labels).astype(np.float64)
    same, images, batch = (counts * (counts - 1)).sum(), len(source), recipe.training.batch_size
    expected = batch * (batch - 1) / 2 * same / max(images * (images - 1), 1)
    if expected < 1:
        raise UsageError(
            f"{name} learns from pairs of one identity, and a batch of {batch} from {source.name} holds "
            f"{expected:.2g} on average: set data.images_per_identity=2 or more, or a larger training.batch_size"
        )


def _student_head(recipe: Recipe, source: Source, student: nn.Module, bundle: Bundle | None) -> MarginHead | None:
    if recipe.head.weight == 0:
        return None
    if source.num_identities < 2:
        raise UsageError(f"{source.name} has {source.num_identities} identity; a margin softmax needs at least 2")
    width = int(getattr(student, "embedding_width"))  # noqa: B009  (a Module's attributes are untyped)
    head = create_head(
        recipe.head.name, embedding_width=width, num_identities=source.num_identities, **recipe.head.arguments
    )
    if recipe.head.init == "teacher":
        if bundle is None:
            raise UsageError("head.init = teacher needs a teacher bundle with its head")
        centres = _matching_centres(bundle, source, why="head.init = teacher")
        if centres.shape[1] != width:
            raise UsageError(f"head.init = teacher: the teacher's centres are {centres.shape[1]} wide, not {width}")
        with torch.no_grad():
            # The scale of a fresh centre: it sets the centres' effective learning rate.
            head.centres.copy_(functional.normalize(centres) * head.centres.norm(dim=1).mean())
    head.sample_rate = recipe.head.sample_rate
    return head.requires_grad_(not recipe.head.freeze)


def _bundle_with_head(path: Path) -> Bundle:
    if path.suffix == ".onnx":
        raise UsageError(f"head.init = teacher needs a teacher bundle with its head, {path} is an ONNX file")
    return load_teacher(path)


def _teacher_head(bundle: Bundle, source: Source, *, why: str) -> MarginHead:
    """The teacher's own head with its frozen centres."""
    centres = _matching_centres(bundle, source, why=why)
    card = bundle.card.head
    assert card is not None  # _matching_centres has checked it
    head = create_head(card.name, embedding_width=centres.shape[1], num_identities=centres.shape[0], **card.arguments)
    with torch.no_grad():
        head.centres.copy_(centres)
    return head


def _matching_centres(bundle: Bundle, source: Source, *, why: str) -> torch.Tensor:
    """The teacher's centres [n, e], if they are of these identities in this order."""
    instead = {
        "apt.keep = head": "use apt.keep = embedding, which needs no head",
        "head.init = teacher": "use head.init = random",
    }
    other = instead.get(why, "use a term that follows embeddings, such as embedding")
    if bundle.head_centres is None or bundle.card.head is None:
        raise UsageError(f"{why}: teacher {bundle.path} carries no head; {other}")
    labels = bundle.card.head.labels
    count = bundle.card.head.num_identities
    if count != source.num_identities or (labels is not None and labels != source.fingerprint()):
        raise UsageError(
            f"{why}: the teacher's head has {count} identities of other data than {source.name} "
            f"({source.num_identities}); {other}"
        )
    return bundle.head_centres


def _build_terms(
    settings: dict[str, Any], student: nn.Module, teacher: nn.Module | None, *, identities: int
) -> dict[str, Term]:
    entries = {name: find_term(name) for name in settings}
    building = {name: entry.build for name, entry in entries.items() if entry.build is not None}
    if not building or teacher is None:
        return {}
    body: Any = teacher.teacher if isinstance(teacher, PromptedTeacher) else teacher  # Any: what a term taps of it
    tokens = not isinstance(teacher, OnnxTeacher)
    shapes = Shapes(
        student_channels=int(getattr(student, "feature_channels", 0)),
        student_grid=getattr(student, "feature_grid", (0, 0)),
        student_embedding=int(getattr(student, "embedding_width", 0)),
        teacher_width=body.token_width if tokens else None,
        teacher_grid=body.grid if tokens else None,
        teacher_embedding=body.embedding_width,
        identities=identities,
    )
    terms = {name: build(settings[name], shapes) for name, build in building.items()}
    for name, term in terms.items():
        if term.needs_tokens and not isinstance(student, Backbone):
            raise UsageError(
                f"{name} reads the student's feature map, but {type(student).__name__} has no forward_features, "
                "feature_channels and feature_grid (see facekd.models.registry.Backbone)"
            )
    return terms
