"""Stores a frozen teacher's outputs for every view of the training faces; goes on where an earlier call stopped."""

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from facekd.common.disk_space import require_space
from facekd.common.errors import FacekdError, UsageError
from facekd.common.locking import locked
from facekd.common.progress import ProgressBar, progress_bar
from facekd.common.writing import WriteError, atomic_file
from facekd.data.dataset import make_view_loader
from facekd.data.source import Source
from facekd.distillation.open_teacher import open_teacher
from facekd.distillation.teacher_cache import TeacherCache, faces_of, reads_tokens, shard_file, without_cache
from facekd.distillation.teachers.base import Teacher
from facekd.distillation.teachers.cached import facts_of
from facekd.models.affordable import create_affordable
from facekd.recipe import Recipe
from facekd.schemas.teacher_cache import CACHE_FILE, TeacherCacheCard

SHARD_ROWS = 4096
"""Outputs in a file at most; a kill costs one file. A small cache has sixteen files."""

LARGEST = 65504.0
"""Of float16."""

_HOPELESS = 256  # images, none of which could be read
_CANDIDATES = (8, 16, 32, 64, 128, 256)
_WORTH = 1.03  # a larger batch has to be so much faster


@dataclass
class Filled:
    """What a call did.

    Attributes:
        cache: the folder, as it is now.
        computed: outputs that were computed now.
        before: outputs that were there.
        images_per_second: of this call; 0 where nothing was left to do.
        batch_size: of the teacher's forward.
        broken: (key, reason) of the images that could not be read; nothing is stored of them.
    """

    cache: TeacherCache
    computed: int = 0
    before: int = 0
    images_per_second: float = 0.0
    batch_size: int = 0
    broken: list[tuple[str, str]] = field(default_factory=list)


def fill_cache(
    recipe: Recipe,
    source: Source,
    out: Path,
    *,
    teacher: Teacher | None = None,
    views: int = 1,
    tokens: Literal["auto", "none", "float16", "int8"] = "auto",
    part: tuple[int, int] = (1, 1),
    batch_size: int | None = None,
    shard_rows: int | None = None,
    progress: bool = False,
) -> Filled:
    """Runs the recipe's teacher over every view of every image, and stores what it gives.

    Args:
        recipe: its teacher, losses, augmentation and loader processes are used.
        source: its training faces.
        out: a new folder, or one of the same outputs, which is gone on with.
        teacher: what `frozen_teacher` gave; None opens it.
        views: of each image.
        tokens: how to keep them; "auto" as float16 where a loss of the recipe reads them, else not at all.
        part: (k, n): this call does every n-th file from the k-th on, so that n machines fill one folder, or folders
            whose files are put together afterwards.
        batch_size: images of a forward; None measures which is the fastest.
        shard_rows: outputs in a file; None: a sixteenth of all, at most SHARD_ROWS.
        progress: show a bar on stderr.

    Raises:
        UsageError: the recipe's teacher cannot be stored; `out` holds something else.
        FacekdError: an output is beyond float16, or nothing of the faces can be read.
        WriteError: the disk is full.
    """
    number, of = part
    if not 1 <= number <= of:
        raise UsageError(f"part {number}/{of}: give K/N with K from 1 to N")
    teacher = teacher or frozen_teacher(recipe)
    card = _card(recipe, source, teacher, views, tokens, shard_rows)
    cache = _folder(out, card)
    with locked(out / f".part-{number}-of-{of}.lock", "filling this cache"):
        todo = [shard for shard in cache.missing() if shard % of == number - 1]
        mine = [shard for shard in range(card.shards) if shard % of == number - 1]
        filled = Filled(cache, before=sum(card.rows_of(one) for one in mine) - sum(card.rows_of(one) for one in todo))
        if not todo:
            return filled
        rows = sum(card.rows_of(shard) for shard in todo)
        require_space(out, card.bytes * rows // card.rows, "the teacher's outputs")
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        teacher.to(device).eval()
        filled.batch_size = batch_size or _fastest_batch(teacher, device, rows)
        with progress_bar("storing the teacher's outputs", rows, shown=progress) as bar:
            start = time.perf_counter()
            _fill(recipe, source, teacher, filled, todo, device, bar)
            filled.images_per_second = filled.computed / (time.perf_counter() - start)
    return filled


def frozen_teacher(recipe: Recipe) -> Teacher:
    """The recipe's teacher, as it is. Raises UsageError where there is none, or it learns while it teaches."""
    if recipe.teacher is None:
        raise UsageError(f"recipe {recipe.name} has no teacher: give teacher.bundle")
    changing = [entry.name for entry in recipe.entries() if entry.method.teaches == "teacher"]
    if changing:
        raise UsageError(
            f"{changing[0]} changes the teacher while it teaches, so its outputs cannot be stored: leave {changing[0]} "
            "out of distillation"
        )
    opened = open_teacher(without_cache(recipe), create_affordable(recipe.model.name, **recipe.model.arguments))
    assert opened is not None
    if opened[0].can_learn:
        raise UsageError(f"teacher.name = {recipe.teacher.name} learns while it teaches: its outputs cannot be stored")
    return opened[0]


def _card(
    recipe: Recipe,
    source: Source,
    teacher: Teacher,
    views: int,
    tokens: Literal["auto", "none", "float16", "int8"],
    shard_rows: int | None,
) -> TeacherCacheCard:
    if tokens == "auto":
        tokens = "float16" if reads_tokens(recipe) else "none"
    if tokens != "none" and teacher.grid is None:
        raise UsageError(f"teacher {teacher.origin.name} gives embeddings alone: leave --tokens out")
    assert recipe.teacher is not None
    return TeacherCacheCard(
        teacher=facts_of(teacher, output=recipe.teacher.output),
        faces=faces_of(source),
        augmentation=recipe.data.augmentation.model_dump(mode="json"),
        views=views,
        tokens=tokens,
        shard_rows=shard_rows or min(SHARD_ROWS, -(-views * len(source) // 16)),
    )


def _folder(out: Path, card: TeacherCacheCard) -> TeacherCache:
    """The folder with its card: made, or found with the same one."""
    if not (out / CACHE_FILE).is_file():
        left = f".{CACHE_FILE}."  # by a writer of it that was killed
        if out.is_file() or (out.is_dir() and any(not path.name.startswith(left) for path in out.iterdir())):
            raise UsageError(f"--out {out} holds something else than a teacher's outputs: give a new folder")
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WriteError(f"cannot write to --out {out}: {error.strerror or error}") from None
        with atomic_file(out / CACHE_FILE, overwrite=True) as file:
            file.write((card.as_json(indent=2) + "\n").encode())
    cache = TeacherCache(out)
    found, wanted = cache.card.model_dump(mode="json"), card.model_dump(mode="json")
    differing = [name for name in wanted if found[name] != wanted[name]]
    if differing:
        name = differing[0]
        raise UsageError(
            f"--out {out} holds outputs of another kind: its {name} is {_short(found[name])}, asked for is "
            f"{_short(wanted[name])}; give another folder, or delete this one"
        )
    return cache


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _fill(
    recipe: Recipe,
    source: Source,
    teacher: Teacher,
    filled: Filled,
    shards: Sequence[int],
    device: torch.device,
    bar: ProgressBar,
) -> None:
    """Computes and writes shards one after the other; one loader serves them all."""
    card = filled.cache.card
    batches = {shard: list(_batches(card, shard, filled.batch_size)) for shard in shards}
    loader = iter(
        make_view_loader(
            source,
            [batch for shard in shards for batch in batches[shard]],
            augmentation=recipe.data.augmentation,
            seed=card.seed,
            workers=recipe.data.workers,
        )
    )
    for shard in shards:
        count = card.rows_of(shard)
        arrays = {
            name: np.full((count, *shape), 0 if kind == "|i1" else np.nan, np.dtype(kind))
            for name, (shape, kind) in card.arrays().items()
        }
        first = 0
        for batch in batches[shard]:
            loaded = next(loader)
            filled.broken += loaded["broken"]
            unread = {key for key, _ in loaded["broken"]}
            places = [first + j for j, (_, i) in enumerate(batch) if not unread or source.key(i) not in unread]
            if places:
                for name, values in _outputs(teacher, loaded["images"], card, device).items():
                    arrays[name][places] = values
            first += len(batch)
            bar.advance(len(batch))
        if len(filled.broken) == filled.computed + count >= min(_HOPELESS, card.faces.images):
            key, reason = filled.broken[0]
            raise FacekdError(
                f"not one of {filled.computed + count} images of {source.name} could be read ({key}: {reason}): see "
                "`facekd data inspect`"
            )
        for name, values in arrays.items():  # the embedding is the last: with it the shard is there
            with atomic_file(shard_file(filled.cache.folder, name, shard), overwrite=True) as file:
                np.save(file, values)
        filled.computed += count


def _batches(card: TeacherCacheCard, shard: int, size: int) -> Iterator[list[tuple[int, int]]]:
    """(view, i) of a shard's rows, in batches of one view."""
    first = shard * card.shard_rows
    rows = range(first, first + card.rows_of(shard))
    batch: list[tuple[int, int]] = []
    for row in rows:
        index = divmod(row, card.faces.images)
        if batch and (len(batch) == size or batch[-1][0] != index[0]):
            yield batch
            batch = []
        batch.append(index)
    yield batch


@torch.no_grad()
def _outputs(
    teacher: Teacher, images: torch.Tensor, card: TeacherCacheCard, device: torch.device
) -> dict[str, np.ndarray]:
    """Rows of a batch uint8 [b, 3, h, w] by name, as they are stored."""
    with _arithmetic(device):
        seen = teacher(teacher.input.normalise(images.to(device)))
    embedding = seen.embedding.float()
    _check_range("embedding", embedding)
    found = {"embedding": embedding.half().cpu().numpy()}
    if card.tokens != "none":
        assert seen.tokens is not None
        tokens = seen.tokens.float()
        _check_range("tokens", tokens)
        if card.tokens == "int8":
            scales = (tokens.abs().amax(dim=2) / 127).clamp(min=2.0**-24).half()  # the smallest float16
            found["token_scales"] = scales.cpu().numpy()
            found["tokens"] = (
                (tokens / scales.float().unsqueeze(2)).round().clamp(-127, 127).to(torch.int8).cpu().numpy()
            )
        else:
            found["tokens"] = tokens.half().cpu().numpy()
    return found


def _check_range(name: str, values: torch.Tensor) -> None:
    largest = float(values.abs().max())
    if not largest <= LARGEST:
        raise FacekdError(
            f"the teacher's {name} reach {largest:g}, beyond the {LARGEST:g} of float16: it cannot be stored"
        )


def _arithmetic(device: torch.device) -> AbstractContextManager[None]:
    """float32 on a CPU; float16, as precise as what is stored, on CUDA."""
    return torch.autocast("cuda", dtype=torch.float16) if device.type == "cuda" else nullcontext()


@torch.no_grad()
def _fastest_batch(teacher: Teacher, device: torch.device, images: int) -> int:
    """The batch with the most images per second, on noise; larger ones are tried while they are clearly faster.

    None is larger than the number of images there are; the smallest candidate is taken then.
    """
    best, pace = 0, 0.0
    for size in [one for one in _CANDIDATES if one <= images] or _CANDIDATES[:1]:
        noise = torch.randn(size, 3, *teacher.input.size, device=device)
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            with _arithmetic(device):
                teacher(noise)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - start)
        now = size / min(seconds)
        if best and now < pace * _WORTH:
            break
        best, pace = size, now
    return best
