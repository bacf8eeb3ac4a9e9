"""What a layout is: how a public network's checkpoint is recognised, and which network here reproduces it."""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch

from facekd.common.errors import FacekdError, UsageError
from facekd.common.registry import Registry
from facekd.common.text import plain
from facekd.models.checkpoint import Checkpoint, Reading, Tensors
from facekd.schemas.input_spec import InputSpec

LayoutClass = TypeVar("LayoutClass", bound="type[Layout]")

LAYOUTS: Registry["type[Layout]"] = Registry(
    "layout", package="facekd.models.layouts", group="facekd.layouts", first=("arcface-vit", "arcface-iresnet")
)


@dataclass(frozen=True)
class Asked:
    """What the user says of a checkpoint that it does not say itself; None leaves it to the layout.

    Attributes:
        layout: whether the layout was named, not recognised.
        heads: of the attention.
        image_size: side of the images in pixels.
        model: timm's name of the network.
    """

    layout: bool = False
    heads: int | None = None
    image_size: int | None = None
    model: str | None = None


@dataclass(frozen=True)
class Centres:
    """Class centres that a checkpoint holds.

    Attributes:
        tensor: [n, e].
        head: name of the margin head here, with the settings its training code has by default.
        arguments: its scale and margin.
    """

    tensor: torch.Tensor
    head: str
    arguments: Mapping[str, float]


@dataclass(frozen=True)
class Imported:
    """A checkpoint as a network here.

    Attributes:
        architecture: name and `arguments` for `create_model`.
        state: its weights by the names that network has.
        input: what it was trained with.
        centres: of its classes; None without.
        notes: what was decided, one sentence each.
    """

    architecture: str
    arguments: dict[str, Any]
    state: Tensors
    input: InputSpec = field(default_factory=InputSpec)
    centres: Centres | None = None
    notes: tuple[str, ...] = ()


class Layout(ABC):
    """One public network's checkpoint. A subclass says what is below and defines `network`.

    Attributes:
        name: that `--layout` takes.
        title: in words, with its article.
        needs: names that every such checkpoint has.
        never: (pattern of a whole name that none has, why not).
        rename: (pattern, replacement) tried in this order on every name; None drops it. A name that none matches stays.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    never: ClassVar[tuple[tuple[str, str], ...]] = ()
    rename: ClassVar[tuple[tuple[str, str | None], ...]] = ()

    def __init__(self, checkpoint: Checkpoint, reading: Reading, asked: Asked) -> None:
        self.checkpoint, self.reading, self.asked = checkpoint, reading, asked
        self.source: Path = checkpoint.path
        self.tensors = reading.tensors

    @classmethod
    def lacks(cls, names: Mapping[str, Any]) -> list[str]:
        """The names it needs that are not there."""
        return [name for name in cls.needs if name not in names]

    @classmethod
    def contradicted_by(cls, names: Mapping[str, Any]) -> tuple[str, str] | None:
        """A name that it never has, and why not."""
        for pattern, why in cls.never:
            found = next((name for name in names if re.fullmatch(pattern, name)), None)
            if found is not None:
                return found, why
        return None

    @classmethod
    def fits(cls, checkpoint: Checkpoint, reading: Reading) -> bool:
        """Whether the names are this layout's."""
        return not cls.lacks(reading.tensors) and cls.contradicted_by(reading.tensors) is None

    @abstractmethod
    def network(self) -> Imported:
        """The network that reproduces the checkpoint.

        Raises:
            UsageError: something that the shapes do not tell must be said.
            FacekdError: the shapes are not this layout's.
        """

    def renamed(self, leave_out: tuple[str, ...] = ()) -> Tensors:
        """The tensors by the names of the network here."""
        state: Tensors = {}
        for name, value in self.tensors.items():
            if name in leave_out:
                continue
            new = self._new_name(name)
            if new is not None:
                state[new] = value
        return state

    def shape(self, name: str, dimensions: int) -> tuple[int, ...]:
        """The shape of a tensor. Raises FacekdError where it has another number of dimensions."""
        shape = tuple(self.tensors[name].shape)
        if len(shape) != dimensions:
            raise self.error(f"{plain(name)} has the shape {list(shape)}")
        return shape

    def depth(self, pattern: str) -> int:
        """1 + the largest number in the group of a pattern that names begin with."""
        numbers = [int(found[1]) for name in self.tensors if (found := re.match(pattern, name))]
        return 1 + max(numbers, default=-1)

    def centres(self, name: str, head: str, **arguments: float) -> Centres | None:
        """Class centres beside the network, [n, e]; None where there are none."""
        value = self.reading.beside.get(name)
        return Centres(value, head, arguments) if value is not None and value.ndim == 2 else None

    def error(self, what: str) -> FacekdError:
        """The error for shapes that are not this layout's."""
        return FacekdError(f"{self.source} is not {self.title} checkpoint: {what}")

    def known_heads(self, size: str, known: int | None, width: int, *, examples: str) -> int:
        """The heads of a geometry: the known ones, or what the user says where none are known.

        Args:
            size: the geometry in words.
            known: its heads, if it is a published one.
            width: that they must divide.
            examples: published geometries, for the message.

        Raises:
            UsageError: neither is there, or both and they differ.
        """
        heads = known if self.asked.heads is None else self.asked.heads
        if heads is None:
            raise UsageError(
                f"{self.source} is {self.title} of {size}, and its shapes do not tell its attention heads: say them "
                f"with --heads (known: {examples})"
            )
        if known is not None and heads != known:
            raise UsageError(f"{self.source} is {self.title} of {size}, which has {known} heads, not {heads}")
        if heads < 1 or width % heads:
            raise UsageError(f"--heads {heads} does not divide the width {width} of {self.source}")
        return heads

    def _new_name(self, name: str) -> str | None:
        for pattern, replacement in self.rename:
            if re.fullmatch(pattern, name):
                return None if replacement is None else re.sub(pattern, replacement, name)
        return name


def register_layout(layout: LayoutClass) -> LayoutClass:
    """Registers the decorated `Layout` under its name."""
    LAYOUTS.register(layout.name, layout)
    return layout


def square_grid(tokens: int) -> int | None:
    """The side of a square grid of so many tokens; None where it is none."""
    side = math.isqrt(tokens)
    return side if side**2 == tokens else None


def arcface_centres(layout: Layout) -> Centres | None:
    """The softmax that arcface_torch keeps beside the backbone, if it is whole.

    Each rank's file holds its own part of the classes, so centres are taken only where no other rank's file is near.
    """
    weight = layout.checkpoint.parts.get("state_dict_softmax_fc", {}).get("weight")
    rank = re.fullmatch(r"(.*_gpu_)\d+(\.\w+)", layout.source.name)
    others = [
        file
        for file in layout.source.parent.glob("*")
        if rank and file.name.startswith(rank[1]) and file.name != layout.source.name
    ]
    if weight is None or weight.ndim != 2 or others:
        return None
    return Centres(weight, "cosface", {"scale": 64.0, "margin": 0.4})
