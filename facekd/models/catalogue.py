"""What `facekd models` shows: every registered model with its size and cost."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from facekd.models.architectures.transformer import TransformerTeacher
from facekd.models.counting import count_macs, count_parameters
from facekd.models.registry import ModelEntry, list_models


@dataclass(frozen=True)
class CatalogueRow:
    """A registered model with its default arguments, at 112x112.

    Attributes:
        grid: (h, w) of the map or tokens that distillation taps.
    """

    name: str
    role: str
    parameters: int
    macs: int
    embedding_width: int
    grid: tuple[int, int]
    summary: str


def catalogue() -> list[CatalogueRow]:
    """One row a registered model; built on the meta device, so no weights are ever made."""
    return [_row(entry) for entry in list_models()]


@cache
def _row(entry: ModelEntry) -> CatalogueRow:
    with torch.device("meta"):
        model: Any = entry.build()
    height, width = model.grid if isinstance(model, TransformerTeacher) else model.feature_grid
    return CatalogueRow(
        name=entry.name,
        role=entry.role,
        parameters=count_parameters(model),
        macs=count_macs(model),
        embedding_width=model.embedding_width,
        grid=(height, width),
        summary=entry.summary,
    )
