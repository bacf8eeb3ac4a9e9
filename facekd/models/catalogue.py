"""What `facekd models` shows: every registered model with its size and cost."""

from dataclasses import dataclass

import torch

from facekd.models.counting import count_macs, count_parameters
from facekd.models.registry import list_models


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
    rows = []
    for entry in list_models():
        with torch.device("meta"):
            model = entry.build()
        grid = model.feature_grid if entry.role == "student" else model.grid
        rows.append(
            CatalogueRow(
                name=entry.name,
                role=entry.role,
                parameters=count_parameters(model),
                macs=count_macs(model),
                embedding_width=int(model.embedding_width),  # type: ignore[arg-type]
                grid=(int(grid[0]), int(grid[1])),  # type: ignore[index, arg-type]
                summary=entry.summary,
            )
        )
    return rows
