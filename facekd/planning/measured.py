"""What a plan measures of a recipe's task: what is trained, what a forward keeps, how fast a device is."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from facekd.common.errors import UsageError
from facekd.data.sources.synthetic import SyntheticSource
from facekd.distillation.build import build_task
from facekd.distillation.task import DistillationTask
from facekd.distillation.teacher_cache import TeacherCache, without_cache
from facekd.distillation.teachers.base import Teacher
from facekd.distillation.teachers.cached import CachedTeacher, facts_of
from facekd.heads.partial_fc import identity_loss
from facekd.recipe import Recipe
from facekd.schemas.teacher_cache import CachedFaces, TeacherCacheCard
from facekd.training.data import Batch
from facekd.training.precision import Precision, choose_device, fastest, fastest_training, unmeasured
from facekd.training.reproducibility import preserved_random_state

OPTIMISER_SLOTS = {"sgd": 1, "adamw": 2}
"""Numbers that an optimiser keeps for each that it trains."""

_TIMED_CENTRES = 16_384


@dataclass(frozen=True)
class Network:
    """What is measured of a recipe's task, identities aside.

    Attributes:
        trained: parameters that are trained, without centres.
        frozen_bytes: bytes of frozen parameters and of buffers.
        momenta: floats of optimiser state.
        averaged: floats of the moving average.
        fixed_bytes, bytes_per_image: of activations, a line through two batches.
        embedding_width: e of the centres; 0 without a head.
        trained_centres: whether the centres learn.
        stored_bytes: of the teacher's outputs of one view of one image, by what is kept of them; empty without a
            teacher, or with one that learns while it teaches.
    """

    trained: int
    frozen_bytes: int
    momenta: int
    averaged: int
    fixed_bytes: int
    bytes_per_image: int
    embedding_width: int
    trained_centres: bool
    stored_bytes: dict[str, int]


def measure_network(recipe: Recipe) -> Network:
    """Builds the recipe's task on two drawn identities and records what the forward of two small batches keeps."""
    with preserved_random_state():
        task = _task(recipe, identities=2)
        groups = task.parameter_groups()
        head = list(task.head.parameters()) if task.head is not None else []
        of_head = {id(one) for one in head}
        trained = [
            (one, OPTIMISER_SLOTS[group.optimiser])
            for group in groups
            for one in group.parameters
            if id(one) not in of_head
        ]
        learning = {id(one) for one, _ in trained}
        others = [one for one in [*task.parameters(), *task.buffers()] if id(one) not in learning | of_head]
        small, large = (_saved_bytes(recipe, task, batch) for batch in (4, 8))
    per_image = (large - small) // 4
    averaged = sum(one.numel() for one in task.student.parameters()) if recipe.training.ema is not None else 0
    return Network(
        trained=sum(one.numel() for one, _ in trained),
        frozen_bytes=sum(one.numel() * one.element_size() for one in others),
        momenta=sum(one.numel() * slots for one, slots in trained),
        averaged=averaged,
        fixed_bytes=max(0, small - 4 * per_image),
        bytes_per_image=per_image,
        embedding_width=task.head.embedding_width if task.head is not None else 0,
        trained_centres=task.head is not None and task.head.centres.requires_grad,
        stored_bytes=_stored_bytes(task),
    )


def _stored_bytes(task: DistillationTask) -> dict[str, int]:
    teacher = task.teacher.network if isinstance(task.teacher, CachedTeacher) else task.teacher
    if teacher is None or teacher.can_learn:
        return {}
    kinds: list[Literal["none", "float16", "int8"]] = ["none", "float16", "int8"] if teacher.grid else ["none"]
    names = {"none": "embeddings", "float16": "embeddings, tokens in float16", "int8": "embeddings, tokens in int8"}
    return {names[kind]: _card_of(teacher, kind).bytes for kind in kinds}


def _card_of(teacher: Teacher, tokens: Literal["none", "float16", "int8"]) -> TeacherCacheCard:
    """Of one view of one image that nobody has seen."""
    return TeacherCacheCard(
        teacher=facts_of(teacher, output=None),
        faces=CachedFaces(name="plan", fingerprint="", images=1),
        augmentation={},
        views=1,
        tokens=tokens,
        shard_rows=1,
    )


def measure_pace(recipe: Recipe, *, gpus: int, identities: int, recalled: bool = False) -> float:
    """Images/s of one of `gpus` devices by this machine's: forward and backward, without the optimiser's step.

    With `recalled` the teacher is not run: its outputs are there, as `facekd teacher cache` stores them. The network is
    timed on the device's own images; the head on those of all, against at most _TIMED_CENTRES centres,
    and its time scaled to the device's share.
    """
    batch = batch_of_device(recipe, gpus)
    device = choose_device(recipe.training.device)
    precision = unmeasured(recipe.training.precision, recipe.training.channels_last, device)
    rows = -(-identities // gpus)
    timed = max(2, min(rows, _TIMED_CENTRES))
    with preserved_random_state():
        task = _task(recipe, identities=2)
        if recalled and task.teacher is not None:
            reads_tokens = any(loss.needs_tokens for _, loss in task.losses())
            task.teacher = CachedTeacher(task.teacher, _card_of(task.teacher, "float16" if reads_tokens else "none"))
        seconds = fastest_training([precision], task, _batch(task, batch))[0].seconds
        head = _task(recipe, identities=timed).head
        if head is not None:
            embeddings = torch.randn(batch * gpus, head.embedding_width, device=device, requires_grad=True)
            labels = torch.randint(0, timed, (batch * gpus,), device=device)
            (of_head,) = fastest([precision], head, lambda _: identity_loss(head, embeddings, labels).backward())
            seconds += of_head.seconds * rows / timed
    return batch / seconds


def batch_of_device(recipe: Recipe, gpus: int) -> int:
    """Images of one device's forward. Raises UsageError where the recipe's batch does not divide."""
    size = recipe.training.batch_size
    if gpus < 1 or size % gpus or size // gpus < 2:
        raise UsageError(
            f"training.batch_size = {size} is of all {gpus} GPUs and must give each the same, two images or more: "
            f"--set training.batch_size={128 * max(1, gpus)}, for example"
        )
    return size // gpus


def _task(recipe: Recipe, *, identities: int) -> DistillationTask:
    source = SyntheticSource(identities=identities, images=2)
    source.name = "facekd plan's"  # in errors: "of other data than ..."
    cache = recipe.teacher.cache if recipe.teacher is not None else None
    task = build_task(without_cache(recipe), source)
    if task.teacher is not None and cache is not None:  # it is of other faces: what counts here are its shapes
        task.teacher = CachedTeacher.of(task.teacher, TeacherCache(Path(cache)))
    task.train()
    return task


def planned_precision(recipe: Recipe) -> Precision:
    """The recipe's format; where it is left open, bf16 on CUDA, float32 on a CPU. To be run on the CPU."""
    meant = torch.device("cpu" if recipe.training.device == "cpu" else "cuda")
    return replace(unmeasured(recipe.training.precision, False, meant), device=torch.device("cpu"))


def _batch(task: DistillationTask, batch: int) -> Batch:
    size = task.student_input.size
    images = torch.randint(0, 256, (batch, 3, *size), dtype=torch.uint8)
    made: Batch = {"images": images, "labels": torch.arange(batch) % 2}
    if isinstance(task.teacher, CachedTeacher):
        made["stored"] = task.teacher.example(batch)
    return made


def _saved_bytes(recipe: Recipe, task: DistillationTask, batch: int) -> int:
    """Bytes of the storages that a forward keeps for the backward, parameters and buffers aside; on the CPU."""
    precision = planned_precision(recipe)
    known = {one.untyped_storage().data_ptr() for one in [*task.parameters(), *task.buffers()]}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage  # holding it keeps its address from being given out again
        return tensor

    arguments = precision.arguments(_batch(task, batch))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), precision.autocast():
        task(*arguments)
    return sum(storage.nbytes() for storage in kept.values())
