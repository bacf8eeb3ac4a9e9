"""Weights to start a training from: a bundle's, timm's, or those of any checkpoint, strict but for the head."""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import nn

from facekd.common.errors import UsageError
from facekd.common.text import plain
from facekd.models.bundle import verify_bundle
from facekd.models.checkpoint import read_checkpoint
from facekd.schemas.card import CARD_FILE, WEIGHTS_FILE

State = Mapping[str, torch.Tensor]

HEADS = ("head.", "neck.")
"""Parts that make the embedding of the body's map or tokens, in students and in teachers: they may start at random."""


def start_from(model: nn.Module, path: str | Path, *, name: str) -> str:
    """Copies a file's weights into a fresh network, and says in one sentence what was taken and what was left out.

    Every weight of the body must be in the file with its shape; the embedding's head may be missing or of another
    width, and stays at random then. What the file has beside the body, as a classifier, is left out. A timm body is
    given the file as timm itself would load it, with position embeddings resized.

    Args:
        model: the network; changed.
        path: a bundle's folder, or a file as `facekd.models.checkpoint.read_checkpoint` opens it.
        name: of the network, for the sentence.

    Raises:
        UsageError: there is no such file, or it is of another network.
        FacekdError: it is damaged.
    """
    path = Path(path)
    if (path / CARD_FILE).is_file():
        verify_bundle(path)
        found = read_checkpoint(path / WEIGHTS_FILE)
    else:
        found = read_checkpoint(path)
    own = model.state_dict()
    readings = [
        {place + key: value for key, value in reading.tensors.items()}
        for reading in found.readings
        for place in ("", "body.")
    ]
    given = max(readings, key=lambda state: len(state.keys() & own.keys()))
    given, resized = _as_timm_loads(model, given)
    fitting = {key: value.float() if value.is_floating_point() else value for key, value in given.items()
               if key in own and own[key].shape == value.shape}  # fmt: skip
    _check(path, name, own, given, fitting)
    model.load_state_dict({**own, **fitting})
    fresh = [key for key in own if key not in fitting and not _is_counter(key)]
    unused = [key for key in given if key not in own] + list(found.beside)
    parts = [f"model.weights {plain(path)}: {len(fitting)} of {len(own)} weights of {name} taken"]
    for what, keys in (("start at random", fresh), ("not used of the file", unused), ("resized", resized)):
        if keys:
            parts.append(f"{what}: {len(keys)} ({_some(keys)})")
    return "; ".join(parts + list(found.notes))


def _check(path: Path, name: str, own: State, given: State, fitting: State) -> None:
    """Raises UsageError where a weight of the body is missing, of another shape, or has no place."""
    body = [key for key in own if not key.startswith(HEADS) and not _is_counter(key)]
    if not any(key in given for key in body):
        raise UsageError(
            f"{path} holds none of the {len(body)} weights of {name}: it has {_some(given)}, the network {_some(body)}"
        )
    missing = [key for key in body if key not in given]
    shapes = [key for key in body if key in given and key not in fitting]
    inside = {_part(key) for key in body}
    unplaced = [key for key in given if key not in own and _part(key) in inside]
    problems = []
    if missing:
        problems.append(f"{len(missing)} weights are not in it ({_some(missing)})")
    if shapes:
        first = shapes[0]
        problems.append(
            f"{len(shapes)} are of another shape ({plain(first)} is {list(given[first].shape)} instead of "
            f"{list(own[first].shape)})"
        )
    if unplaced:
        problems.append(f"{len(unplaced)} of its own have no place ({_some(unplaced)})")
    if problems:
        raise UsageError(
            f"{path} does not fit {name}, which has {len(body)} weights before its head: {'; '.join(problems)}"
        )


def _as_timm_loads(model: nn.Module, given: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], list[str]]:
    """The same after timm's own filter for its body's networks, and the names whose shapes that changed."""
    body = getattr(model, "body", None)
    convert = getattr(sys.modules.get(type(body).__module__), "checkpoint_filter_fn", None)
    own = model.state_dict()
    if convert is None or not type(body).__module__.startswith("timm.") or not _misfits(own, given):
        return given, []
    inside = {key.removeprefix("body."): value for key, value in given.items() if key.startswith("body.")}
    try:
        converted = {f"body.{key}": value for key, value in convert(dict(inside), body).items()}
    except Exception:  # timm's filters expect files of their own networks: ours says what does not fit
        return given, []
    rest = {key: value for key, value in given.items() if not key.startswith("body.")}
    both = {**rest, **converted}
    if len(_misfits(own, both)) >= len(_misfits(own, given)):
        return given, []
    return both, [key for key in both if key in given and both[key].shape != given[key].shape]


def _misfits(own: State, given: State) -> list[str]:
    return [key for key, value in own.items() if key not in given or given[key].shape != value.shape]


def _is_counter(key: str) -> bool:
    """Batch norms of old files count no batches."""
    return key.endswith("num_batches_tracked")


def _part(key: str) -> str:
    """The top module of a weight; within a body its next one."""
    names = key.split(".")
    return ".".join(names[: 2 if names[0] == "body" else 1])


def _some(keys: Iterable[str], count: int = 3) -> str:
    names = list(keys)
    return ", ".join(map(plain, names[:count])) + (", ..." if len(names) > count else "")
