"""A card for a model that was built here: its counts, date and versions."""

from datetime import UTC, datetime
from typing import Any, Literal

from torch import nn

from facekd.common.versions import __version__, package_versions
from facekd.models.counting import count_macs, count_parameters
from facekd.schemas.card import Architecture, Card
from facekd.schemas.input_spec import InputSpec

VERSIONED_PACKAGES = ("torch", "timm", "numpy", "safetensors")
"""The packages that decide what a model computes."""


def describe(
    model: nn.Module,
    *,
    kind: Literal["student", "teacher"],
    name: str,
    architecture: str,
    arguments: dict[str, Any] | None = None,
    input_spec: InputSpec | None = None,
    **facts: Any,
) -> Card:
    """A card for `model`, with counts, date and versions filled in.

    Args:
        architecture: the name `create_model` built the model with, and its `arguments`.
        facts: further fields of `Card`: training, teacher, metrics, thresholds, head, notes.
    """
    spec = input_spec or InputSpec()
    return Card(
        kind=kind,
        name=name,
        architecture=Architecture(name=architecture, arguments=arguments or {}),
        input=spec,
        embedding_width=int(model.embedding_width),  # type: ignore[arg-type]
        parameters=count_parameters(model),
        macs=count_macs(model, (3, *spec.size)),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        facekd_version=__version__,
        versions=package_versions(*VERSIONED_PACKAGES),
        **facts,
    )
