"""A small student with statistics of its own, its bundle, and faces: made once for all export tests."""

from pathlib import Path

import pytest
import torch
from torch import nn

from facekd.export.faces import Faces, faces_from_source
from facekd.export.pipeline import Reference
from facekd.models.architectures.mobilefacenet import MobileFaceNet
from facekd.models.bundle import Bundle, load_bundle, save_bundle
from facekd.models.describe import describe

ARGUMENTS = {
    "scale": 0.25,
    "blocks": [1, 1, 1, 1],
    "embedding_width": 32,
    "mid_multiplier": 0.25,
    "feature_channels": 64,
}


def small_student(activation: str = "prelu") -> MobileFaceNet:
    """A MobileFaceNet of 16 to 64 channels whose norms and slopes are not those of a fresh network.

    The statistics are those of the drawn faces, so that embeddings differ from face to face: a network whose constant
    part dominates would make every cosine 1 and every gate pass.
    """
    generator = torch.Generator().manual_seed(7)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = MobileFaceNet(activation=activation, **ARGUMENTS)  # type: ignore[arg-type]
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data = torch.empty_like(module.weight).uniform_(0.7, 1.3, generator=generator)
            module.bias.data = torch.empty_like(module.bias).normal_(0, 0.2, generator=generator)
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = None  # the plain mean over the batches
        if isinstance(module, nn.PReLU):
            module.weight.data = torch.empty_like(module.weight).uniform_(-0.2, 0.6, generator=generator)
    faces = torch.from_numpy(faces_from_source("synthetic:identities=32,images=1,seed=5", 32, (112, 112)).images)
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model((faces.float() - 127.5) / 127.5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = 0.1
    return model.eval()


def write_bundle(folder: Path, activation: str = "prelu") -> Path:
    """The small student as a bundle."""
    model = small_student(activation)
    arguments = {**ARGUMENTS, "activation": activation}
    card = describe(
        model,
        kind="student",
        name=f"small-{activation}",
        architecture="mobilefacenet",
        arguments=arguments,
        thresholds=[{"far": 0.001, "threshold_cos": 0.31, "dataset": "drawn"}],
    )
    return save_bundle(folder, model, card)


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the small PReLU student's bundle."""
    return write_bundle(tmp_path_factory.mktemp("bundles") / "small")


@pytest.fixture(scope="session")
def bundle(bundle_path: Path) -> Bundle:
    """The small student."""
    return load_bundle(bundle_path)


@pytest.fixture(scope="session")
def faces() -> Faces:
    """Eight drawn faces."""
    return faces_from_source("synthetic:identities=8,images=1,seed=3", 8, (112, 112))


@pytest.fixture(scope="session")
def reference(bundle: Bundle, faces: Faces) -> Reference:
    """The small student as the reference of every parity check."""
    return Reference(bundle=bundle, faces=faces)


@pytest.fixture(autouse=True)
def _a_busy_machine_is_no_endless_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs here ends; how long it may take before it is called endless is tested in tests/runtimes."""
    monkeypatch.setattr("facekd.runtimes.base.LIMIT_S", 500.0)
    monkeypatch.setattr("facekd.runtimes.opening.LIMIT_S", 500.0)
