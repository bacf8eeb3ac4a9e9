"""A DataLoader of the user's own in the same loop: what it may yield, and that a run on it can be gone on with."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from facekd.common.errors import FacekdError, UsageError
from facekd.recipe import Recipe
from facekd.training.loader import LoaderBatches
from facekd.training.log import Reporter
from facekd.training.loop import Trainer
from facekd.training.task import TrainingTask


class Classifier(nn.Module, TrainingTask):
    """The least that a task is: a loss, and what learns by it."""

    def __init__(self) -> None:
        super().__init__()
        self.student = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> Any:
        loss = functional.cross_entropy(self.student(images.float() / 255), labels)
        return SimpleNamespace(loss=loss, parts={})

    def parameter_groups(self) -> list[Any]:
        values = {"optimiser": "sgd", "lr": 0.1, "weight_decay": 0.0, "momentum": 0.0}
        return [SimpleNamespace(name="network", parameters=list(self.parameters()), **values)]


def faces(count: int = 20) -> TensorDataset:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (count, 3, 8, 8), generator=generator, dtype=torch.uint8)
    return TensorDataset(images, torch.arange(count) % 4)


def recipe(**training: Any) -> Recipe:
    values = {"batch_size": 5, "precision": "fp32", "channels_last": False, "device": "cpu", "log_every": 1, **training}
    optimisation = {"schedule": "constant", "warmup": 0, "clip_norm": None}
    content = {"name": "own", "data": {"source": "-"}, "optimisation": optimisation, "training": values}
    return Recipe.model_validate(content)


def train(out: Path, *, resume: bool = False, **training: Any) -> Classifier:
    torch.manual_seed(0)
    task = Classifier()
    settings = recipe(**training)
    data = LoaderBatches(DataLoader(faces(), batch_size=5), settings.training, name="my faces")
    Trainer(settings, task, data, out=out, reporter=Reporter(quiet=True)).run(resume=resume)
    return task


def test_two_steps_are_two_steps_of_gradient_descent(tmp_path: Path) -> None:
    trained = train(tmp_path, max_steps=2)
    torch.manual_seed(0)
    plain = Classifier()
    optimiser = torch.optim.SGD(plain.parameters(), lr=0.1)
    for images, labels in list(DataLoader(faces(), batch_size=5))[:2]:
        optimiser.zero_grad()
        plain(images, labels).loss.backward()
        optimiser.step()
    for one, other in zip(trained.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(line["step"], line["images"]) for line in lines if line["kind"] == "step"] == [(1, 5), (2, 10)]


def test_a_run_goes_on_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", epochs=2, accumulation=3, checkpoint_every=1, keep_last=9)
    for file in (tmp_path / "whole" / "checkpoints").iterdir():
        if not file.name.startswith("step-00000001-"):
            file.unlink()
    again = train(tmp_path / "whole", epochs=2, accumulation=3, checkpoint_every=1, keep_last=9, resume=True)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


def test_an_epoch_of_four_batches_by_three_is_two_steps() -> None:
    data = LoaderBatches(DataLoader(faces(), batch_size=5), recipe(accumulation=3, epochs=2).training)
    assert (data.batches_per_epoch, data.total_steps()) == (4, 4)
    steps = data.steps(0, 0)
    found = [next(steps) for _ in range(3)]
    assert [(one.epoch, one.next_batch, one.images) for one in found] == [(0, 3, 15), (0, 4, 5), (1, 3, 15)]
    assert [one.next_batch for one in (next(data.steps(1, 3)), next(data.steps(0, 1)))] == [4, 4]


class Told:
    """A sampler that remembers the epochs it was told."""

    def __init__(self) -> None:
        self.epochs: list[int] = []

    def __iter__(self) -> Any:
        return iter(range(20))

    def __len__(self) -> int:
        return 20

    def set_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)


def test_the_sampler_is_told_the_epoch() -> None:
    sampler = Told()
    data = LoaderBatches(DataLoader(faces(), batch_size=10, sampler=sampler), recipe().training)
    steps = data.steps(3, 1)
    for _ in range(3):
        next(steps)
    assert sampler.epochs == [3, 4]


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "has no batch"),
        ([(torch.zeros(2, 3, 8, 8), torch.zeros(2))], "images torch.float32"),
        ([(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(3))], "and 3 labels"),
        ([torch.zeros(2)], "yields Tensor, not"),
    ],
)
def test_what_is_no_batch_of_faces_is_refused(batches: list[Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        next(LoaderBatches(batches, recipe().training).steps(0, 0))


def test_a_loader_that_ends_early_is_said() -> None:
    class Short(list[Any]):
        def __len__(self) -> int:
            return 3

    batch = next(iter(DataLoader(faces(), batch_size=5)))
    steps = LoaderBatches(Short([batch, batch]), recipe().training).steps(0, 0)
    with pytest.raises(FacekdError, match="ended epoch 0 after 2 of 3 batches"):
        for _ in range(3):
            next(steps)
