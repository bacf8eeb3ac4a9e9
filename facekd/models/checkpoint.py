"""A foreign checkpoint opened: which of its tensors are the network's, under their bare names."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from facekd.common.errors import FacekdError, UsageError
from facekd.common.text import plain
from facekd.common.validation import shown
from facekd.models.weight_files import ForeignObject, read_weight_file

Tensors = dict[str, torch.Tensor]

# Keys under which training scripts keep a network, the averaged weights first: they are what is evaluated and
# published (timm's own loader prefers them too).
_AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
_PLAIN = ("state_dict", "state_dict_backbone", "model_state_dict", "model", "backbone", "net", "network", "weights")

WRAPPERS = ("module.", "_orig_mod.")
"""Put before every name by DistributedDataParallel and torch.compile: never a layer's own."""

ATTRIBUTES = ("model.", "backbone.", "net.", "network.")
"""The attribute of a training module, Lightning's for one, that holds the network."""

_COUNTERS = ("n_averaged",)  # torch.optim.swa_utils.AveragedModel


@dataclass(frozen=True)
class Reading:
    """One reading of a checkpoint's names.

    Attributes:
        prefix: what was cut off the names, "" for nothing.
        tensors: the network's, by what is left of their names.
        beside: tensors whose names do not begin with the prefix, as they stand in the file.
    """

    prefix: str
    tensors: Tensors
    beside: Tensors


@dataclass(frozen=True)
class Checkpoint:
    """The weights of one network in a file.

    Attributes:
        path: the file.
        key: of the file's dictionary, under which the weights lay; None where the file is the state dict itself.
        passed_over: keys of other networks' weights in it, such as the plain ones beside averaged ones.
        parts: every dictionary of tensors in the file by its key (a classifier of its own, for example).
        values: plain values in the file's dictionary, such as "arch" or "epoch".
        readings: of the names, from how they stand in the file to all wrappers cut off; at least one.
    """

    path: Path
    key: str | None
    passed_over: tuple[str, ...]
    parts: Mapping[str, Tensors]
    values: Mapping[str, str | int | float]
    readings: tuple[Reading, ...]

    @property
    def tensors(self) -> Tensors:
        """The network's tensors by their bare names."""
        return self.readings[-1].tensors

    @property
    def prefix(self) -> str:
        """What was cut off every name."""
        return self.readings[-1].prefix

    @property
    def beside(self) -> Tensors:
        """Tensors that are not the network's: a margin head's, a counter."""
        return self.readings[-1].beside

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What was chosen, for people: one sentence each."""
        notes = []
        if self.passed_over:
            others = ", ".join(map(plain, self.passed_over))
            notes.append(f"took {plain(self.key)}; the file also holds {others} (--key chooses)")
        return tuple(notes)


def read_checkpoint(path: str | Path, key: str | None = None) -> Checkpoint:
    """Opens a checkpoint whoever wrote it, and takes the wrapping off.

    Known: a bare state dict; under a key of the file's dictionary (Lightning, timm, arcface_torch and others), the
    averaged weights before the plain ones; names that begin with module., _orig_mod., model., backbone. or net., also
    several in a row; half precision (as it is: `load_strictly` makes float32 of it); safetensors, whole or in shards.

    Args:
        path: a file as `facekd.models.weight_files.read_weight_file` reads it.
        key: the key to take where the file holds several; one with a dot at its end takes the names that begin so.

    Raises:
        UsageError: no such file or key, or several networks and no key.
        FacekdError: not a file of weights, or a weight is not finite.
    """
    path = Path(path)
    content = read_weight_file(path)
    taken: str | None = None
    passed_over: tuple[str, ...] = ()
    parts: dict[str, Tensors] = {}
    if _is_state(content):
        _check_no_key(path, content, key)
        state: Tensors = dict(content)
    else:
        parts = dict(_parts(content))
        taken, passed_over = _choose(path, content, parts, key)
        state = parts[taken]
    if key is not None and key.endswith("."):
        state = {name: value for name, value in state.items() if name.startswith(key)}
        if not state:
            raise UsageError(f"{path} has no name that begins with {shown(key)}")
    _check_state(path, state)
    values = {str(name): value for name, value in content.items() if isinstance(value, str | int | float)}
    return Checkpoint(path, taken, passed_over, parts, values, tuple(_readings(state, key)))


def _is_state(content: Any) -> bool:
    return (
        isinstance(content, Mapping)
        and bool(content)
        and all(isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in content.items())
    )


def _parts(content: Any, place: str = "") -> Iterator[tuple[str, Tensors]]:
    """The state dicts in a dictionary and in the dictionaries in it, by key or key.key."""
    if not isinstance(content, Mapping):
        return
    for name, value in content.items():
        if isinstance(name, str) and _is_network(value):
            yield place + name, dict(value)
        elif not place and isinstance(name, str):
            yield from _parts(value, f"{name}.")


def _is_network(content: Any) -> bool:
    """A state dict, or one of a quantised network, which holds more than tensors (`_check_state` refuses it)."""
    return _is_state(content) or (isinstance(content, Mapping) and any("_packed_params" in str(key) for key in content))


def _check_no_key(path: Path, content: Any, key: str | None) -> None:
    if key is not None and not key.endswith("."):
        names = ", ".join(plain(name) for name in list(content)[:3])
        raise UsageError(f"{path} has no key {shown(key)}: it is a state dict itself ({names}, ...)")


def _choose(path: Path, content: Any, parts: dict[str, Tensors], key: str | None) -> tuple[str, tuple[str, ...]]:
    """The key to take, and the known keys passed over."""
    if not parts:
        if _is_network(content):
            _check_state(path, content)
        raise FacekdError(
            f"{path} does not hold a state dict (names to tensors) but {_described(content)}; save the weights alone, "
            "torch.save(model.state_dict(), ...)"
        )
    if key is not None and not key.endswith("."):
        if key not in parts:
            raise UsageError(f"{path} holds no weights under the key {shown(key)}; valid: {_listed(parts)}")
        return key, ()
    averaged, networks = ([name for name in names if name in parts] for names in (_AVERAGED, _PLAIN))
    if averaged:
        return averaged[0], (*averaged[1:], *networks)
    candidates = networks or list(parts)
    if len(candidates) > 1:
        raise UsageError(f"{path} holds several sets of weights: choose one with --key ({_listed(candidates)})")
    return candidates[0], ()


def _described(content: Any) -> str:
    if isinstance(content, ForeignObject):
        return "a whole object, which only its own code could rebuild"
    if not isinstance(content, Mapping):
        return type(content).__name__
    odd = next((key for key, value in content.items() if not isinstance(value, torch.Tensor)), None)
    mixed = any(isinstance(value, torch.Tensor) for value in content.values())
    beside = f", {shown(odd)} among its tensors" if mixed else f" with the keys {_listed(content)}"
    return f"{type(content).__name__}{beside}" if content else "an empty dict"


def _listed(names: Any) -> str:
    names = list(names)
    return ", ".join(plain(name) for name in names[:8]) + (", ..." if len(names) > 8 else "")


def _check_state(path: Path, state: Mapping[str, Any]) -> None:
    for name, value in state.items():
        if "_packed_params" in name or (isinstance(value, torch.Tensor) and value.is_quantized):
            raise FacekdError(
                f"{path} holds a quantised network ({plain(name)}), whose full weights are gone: import the "
                "floating-point checkpoint"
            )
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise FacekdError(
                f"{path}: {plain(name)} holds NaN or infinity: these weights are damaged, or training diverged"
            )


def _readings(state: Tensors, key: str | None) -> Iterator[Reading]:
    """As it stands, then with one prefix more cut off each time, as long as most names have one in common."""
    cut, beside = "", {name: value for name, value in state.items() if name in _COUNTERS}
    tensors = {name: value for name, value in state.items() if name not in beside}
    yield Reading(cut, tensors, dict(beside))
    chosen = (key,) if key is not None and key.endswith(".") else ()
    while True:
        prefix = next((one for one in (*chosen, *WRAPPERS, *ATTRIBUTES) if _is_common(one, tensors)), None)
        if prefix is None:
            return
        beside |= {cut + name: value for name, value in tensors.items() if not name.startswith(prefix)}
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        cut += prefix
        yield Reading(cut, tensors, dict(beside))


def _is_common(prefix: str, names: Tensors) -> bool:
    return 2 * sum(name.startswith(prefix) for name in names) > len(names)
