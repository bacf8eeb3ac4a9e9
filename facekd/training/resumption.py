"""Whether a checkpoint belongs to the run that wants to go on from it."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from pydantic import ValidationError

from facekd.common.errors import UsageError
from facekd.common.validation import shown
from facekd.distributed import collectives
from facekd.recipe import Recipe

FREE_FIELDS = frozenset(
    {
        "name",
        "data.workers",
        "teacher.trust_input",
        "training.max_minutes",
        "training.threads",
        "training.log_every",
        "training.checkpoint_every",
        "training.keep_last",
        "evaluation.report",
        "evaluation.teacher",
    }
)
"""Fields of the recipe that do not change what is learnt: a resumed run may have other values."""


class Identified(Protocol):
    """Data that a run can be known by: a source, or the batches of the loop."""

    name: str

    def fingerprint(self) -> str: ...


def identity(recipe: Recipe, data: Identified) -> dict[str, Any]:
    """What a checkpoint remembers of its run."""
    return {
        "recipe": recipe.model_dump(mode="json"),
        "recipe_hash": recipe.hash(),
        "data": data.fingerprint(),
        "environment": {
            "torch": str(torch.__version__),
            "threads": torch.get_num_threads(),
            "ranks": collectives.world(),
        },
    }


def check(state: Mapping[str, Any], recipe: Recipe, data: Identified, *, warn: Callable[[str], None]) -> None:
    """Compares a checkpoint's identity with the run's.

    Raises:
        UsageError: another recipe or other data; the first field that differs is named.
    """
    if state["recipe_hash"] != recipe.hash():
        before, now = map(_flat, _comparable(state["recipe"], recipe))
        for name in sorted(before.keys() | now.keys()):
            if before.get(name) != now.get(name) and name not in FREE_FIELDS:
                raise UsageError(
                    f"cannot resume with another recipe: {name} was {shown(before.get(name))}, "
                    f"is now {shown(now.get(name))}. Give the same recipe, or another --out"
                )
    if state["data"] != data.fingerprint():
        raise UsageError(
            f"cannot resume with other data: {data.name} has fingerprint {data.fingerprint()[:12]}, "
            f"the run began on {state['data'][:12]}"
        )
    now_environment = identity(recipe, data)["environment"]
    for name, value in state["environment"].items():
        if now_environment[name] != value:
            warn(f"{name} was {value}, is now {now_environment[name]}: the result is not bit for bit that of one run")


def _comparable(before: Mapping[str, Any], now: Recipe) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Both with every default written out, also those that the kept recipe's version did not have yet.

    As they are if the kept one has what is gone since, so that it is named.
    """
    try:
        return _complete(Recipe.model_validate(before)), _complete(now)
    except (ValidationError, UsageError):
        return before, now.model_dump(mode="json")


def _complete(recipe: Recipe) -> dict[str, Any]:
    """The recipe with every setting of every method: a default may be left to itself or stated."""
    methods = [{entry.name: entry.settings.model_dump(mode="json")} for entry in recipe.entries()]
    return recipe.model_dump(mode="json") | {"distillation": methods}


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings and lists by dotted names; an empty one is a value."""
    children: Any = ()
    if isinstance(value, Mapping):
        children = value.items()
    elif isinstance(value, list):
        children = enumerate(value)
    flat: dict[str, Any] = {}
    for name, child in children:
        flat |= _flat(child, f"{prefix}{name}.")
    return flat or {prefix.rstrip("."): value}
