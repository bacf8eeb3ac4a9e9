"""What the tests of layouts share: the golden cards of public checkpoints, and tensors made by their formula."""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch


class GoldenCards:
    """The cards of ../shared/golden: weights and pictures by a formula, and what the public code made of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        spec = importlib.util.spec_from_file_location("golden_formula", folder / "formula.py")
        assert spec is not None and spec.loader is not None
        self.formula: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.formula)

    def card(self, name: str) -> dict[str, Any]:
        """A card by its file's name."""
        card: dict[str, Any] = json.loads((self.folder / f"{name}.json").read_text())
        return card

    def state(self, card: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Its weights by their bare names."""
        return {name: torch.from_numpy(value) for name, value in self.formula.state_dict(card["keys"]).items()}

    def images(self) -> torch.Tensor:
        """Three pictures, uint8 RGB [3, 3, 112, 112]."""
        return torch.from_numpy(self.formula.images()).permute(0, 3, 1, 2).contiguous()

    def wrapped(self, card: dict[str, Any], state: dict[str, torch.Tensor], number: int = 0) -> Any:
        """The weights as the card's published file number `number` holds them."""
        wrapping = card["wrappings"][number]
        tensors = {wrapping["prefix"] + name: value for name, value in state.items()}
        for name, shape in wrapping["also"]:
            tensors[name] = torch.randn([7 if side == "classes" else side for side in shape])
        if wrapping["top"] is None:
            return tensors
        return {wrapping["top"]: tensors} | dict.fromkeys(wrapping.get("also_top", ()), 1)


@pytest.fixture(scope="session")
def golden(shared: Path) -> Iterator[GoldenCards]:
    """The golden cards of the shared folder."""
    folder = shared / "golden"
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}")
    yield GoldenCards(folder)


@pytest.fixture
def no_initialisation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks are built with whatever is in memory: fresh weights, replaced at once, cost more than all else."""
    for name in ("trunc_normal_", "normal_", "uniform_", "kaiming_normal_", "kaiming_uniform_", "xavier_uniform_"):
        monkeypatch.setattr(torch.nn.init, name, lambda tensor, *_, **__: tensor)
    monkeypatch.setattr("timm.layers.weight_init._trunc_normal_", lambda tensor, *_: tensor)
