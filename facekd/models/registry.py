"""The models by name: a decorator adds one, `create_model` builds one, `list_models` shows them.

A model is a function that takes keyword arguments and returns a module. A student obeys the `Backbone` protocol; a
teacher is a `facekd.models.architectures.transformer.TransformerTeacher`, or a CNN that obeys `Backbone` too.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import torch
from torch import nn

from facekd.common.errors import UsageError, one_line
from facekd.common.registry import Registry
from facekd.common.validation import shown
from facekd.schemas.input_spec import InputSpec

Role = Literal["student", "teacher"]
Function = TypeVar("Function", bound=Callable[..., nn.Module])


@runtime_checkable
class Backbone(Protocol):
    """What distillation asks of a student (every student here is also an `nn.Module`).

    Attributes:
        embedding_width: e, the length of the embedding.
        feature_channels: c of the tapped feature map.
        feature_grid: (h, w) of the tapped feature map.
    """

    embedding_width: int
    feature_channels: int
    feature_grid: tuple[int, int]

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised images [b, 3, H, W] -> the tapped feature map [b, c, h, w]."""

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:
        """The tapped feature map [b, c, h, w] -> raw embeddings [b, e]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised images [b, 3, H, W] -> raw, un-normalised embeddings [b, e]."""


@dataclass(frozen=True)
class ModelEntry:
    """One registered model: its name, role and the function that builds it."""

    name: str
    role: Role
    build: Callable[..., nn.Module]
    summary: str


LIBRARIES = ("timm", "torchvision")
"""Whose CNNs are students by name: `timm/<name>`."""

MODELS: Registry[ModelEntry] = Registry(
    "model",
    package="facekd.models.architectures",
    group="facekd.models",
    example="timm/<name>, torchvision/<name> or package.module:function",
)
"""By an entry point too: a function that builds a model, decorated by `register_model` or not."""


def register_model(*, role: Role, name: str | None = None) -> Callable[[Function], Function]:
    """Registers the decorated function under `name` (default: its own name); its docstring's first line is the summary.

    Raises:
        ValueError: another function already has that name.
    """

    def decorate(function: Function) -> Function:
        key = name or function.__name__
        MODELS.register(key, _entry(key, role, function))
        return function

    return decorate


def find_model(name: str) -> ModelEntry:
    """The model of a name: registered, of timm or torchvision, or `package.module:function` of a trusted module.

    Raises:
        UsageError: there is none.
    """
    library, slash, model = name.partition("/")
    if slash and library in LIBRARIES:
        student = MODELS.find(f"{library}_student")
        return replace(student, name=name, build=lambda **given: student.build(model=model, **given))
    found: Any = MODELS.find(name, wanted_by="the model")
    if isinstance(found, ModelEntry):
        return found
    if not callable(found):
        raise UsageError(f"model {shown(name)} is {type(found).__name__}, not a function that builds a model")
    return _entry(name, "student", found)


def list_models() -> list[ModelEntry]:
    """Every registered model, students first, by name within a role."""
    entries = [find_model(name) for name in MODELS.names()]
    return sorted(entries, key=lambda entry: (entry.role != "student", entry.name))


def create_model(name: str, /, **arguments: Any) -> nn.Module:
    """Builds a model with fresh weights; nothing is ever downloaded.

    Args:
        name: a registered name; `timm/<name>` or `torchvision/<name>` for a CNN of theirs as student; or
            `package.module:function`, a function of the user's own that returns a module, if its module is trusted
            (facekd.common.trust).
        arguments: passed to the model's function.

    Raises:
        UsageError: the name is unknown, an argument is not one of the model's, or a value is not valid.
    """
    build = find_model(name).build
    _check_arguments(name, build, arguments)
    model = build(**arguments)
    if not isinstance(model, nn.Module):
        raise UsageError(f"model {shown(name)} returned {type(model).__name__}, not a torch.nn.Module")
    if not isinstance(getattr(model, "embedding_width", None), int):
        model.embedding_width = _embedding_width(name, model)  # type: ignore[assignment]
    return model


def _embedding_width(name: str, model: nn.Module) -> int:
    """Of a module of somebody's own that does not state it: what it returns for two images of the usual size.

    Raises:
        UsageError: it takes no such images, or returns no embeddings.
    """
    modes = [(module, module.training) for module in model.modules()]
    device = next((value.device for value in (*model.parameters(), *model.buffers())), None)
    try:
        with torch.no_grad():
            output = model.eval()(torch.zeros(2, 3, *InputSpec().size, device=device))
    except Exception as error:  # somebody's own code may fail at any line
        reason = one_line(f"{type(error).__name__}: {error}", limit=200)
        raise UsageError(
            f"model {name!r} is not a student: it has no embedding_width and fails on images [2, 3, 112, 112] "
            f"({reason}), which a student maps to embeddings [2, e]"
        ) from error
    finally:
        for module, training in modes:
            module.training = training
    if not isinstance(output, torch.Tensor) or output.ndim != 2 or len(output) != 2:
        found = list(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise UsageError(
            f"model {name!r} is not a student: it has no embedding_width and returns {found} for images "
            "[2, 3, 112, 112], which a student maps to embeddings [2, e]"
        )
    return int(output.shape[1])


def create_student(name: str, /, **arguments: Any) -> nn.Module:
    """`create_model`, checked to be something that can be distilled into.

    Raises:
        UsageError: as `create_model`, or the model lacks a part of `Backbone`, as a teacher or a plain module does.
    """
    model = create_model(name, **arguments)
    parts = ("embedding_width", "feature_channels", "feature_grid", "forward_features", "forward_head")
    missing = [part for part in parts if not hasattr(model, part)]
    if missing:
        students = ", ".join(entry.name for entry in list_models() if entry.role == "student")
        raise UsageError(f"model {shown(name)} is not a student: it has no {', '.join(missing)}; valid: {students}")
    return model


def _entry(name: str, role: Role, build: Callable[..., nn.Module]) -> ModelEntry:
    return ModelEntry(name, role, build, summary=(inspect.getdoc(build) or "").partition("\n")[0])


def _check_arguments(name: str, build: Callable[..., nn.Module], arguments: dict[str, Any]) -> None:
    """Names the offending argument and the valid ones, where Python's TypeError would name a function."""
    parameters = inspect.signature(build).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return
    unknown = [key for key in arguments if key not in parameters]
    if unknown:
        raise UsageError(
            f"model {shown(name)} takes no argument {shown(unknown[0])}; valid: {', '.join(parameters) or 'none'}"
        )
    required = [
        key
        for key, p in parameters.items()
        if p.default is inspect.Parameter.empty and p.kind is not inspect.Parameter.VAR_POSITIONAL
    ]
    missing = [key for key in required if key not in arguments]
    if missing:
        raise UsageError(
            f"model {shown(name)} needs the argument {shown(missing[0])}; it takes: {', '.join(parameters)}"
        )
