"""A student, named in recipes by its dotted path, and a teacher bundle: a step takes milliseconds."""

from pathlib import Path

import torch
from torch import nn

from facekd.models.bundle import save_bundle
from facekd.models.describe import describe
from facekd.models.registry import create_model

TEACHER = {
    "patch_size": 8,
    "embed_dim": 16,
    "depths": [1, 1],
    "num_heads": [1, 2],
    "window_size": 7,
    "embedding_width": 16,
}


class TinyStudent(nn.Module):
    """Three convolutions to a 7x7 map, with dropout, so that a resumed run must restore the random state too."""

    embedding_width = 16
    feature_channels = 16
    feature_grid = (7, 7)

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 8, stride=8), nn.BatchNorm2d(8), nn.PReLU(8), nn.Conv2d(8, 16, 2, stride=2), nn.Dropout(0.2)
        )
        self.neck = nn.Sequential(nn.Conv2d(16, 16, 7), nn.Flatten(), nn.BatchNorm1d(16))

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:
        return self.neck(features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(x))


def tiny_student() -> TinyStudent:
    """A student for tests."""
    return TinyStudent()


def steady_student() -> TinyStudent:
    """Without dropout and batch statistics: what it learns does not depend on how a batch is split."""
    student = TinyStudent()
    student.body[1], student.body[4], student.neck[2] = nn.Identity(), nn.Identity(), nn.Identity()
    return student


def save_teacher(path: Path) -> Path:
    """A tiny Swin with random weights as a teacher bundle."""
    torch.manual_seed(1)
    model = create_model("swin_teacher", **TEACHER)
    card = describe(model, kind="teacher", name="tiny", architecture="swin_teacher", arguments=TEACHER)
    return save_bundle(path, model, card)


def recipe_content(teacher: Path, **training: object) -> dict[str, object]:
    """URFM + APT from that teacher on 48 synthetic faces: 6 batches, 3 optimiser steps an epoch."""
    return {
        "name": "tiny",
        "seed": 3,
        "data": {"source": "synthetic:identities=6,images=8", "workers": 1},
        "model": {"name": "tiny_models:tiny_student"},
        "teacher": {"bundle": str(teacher)},
        "distillation": [
            {"urfm": {"local_centres": 4, "width": 16, "heads": 2}},
            {"apt": {"prompts": 2, "keep": "embedding"}},
        ],
        "optimisation": {"lr": 0.05},
        "training": {
            "epochs": 5,
            "batch_size": 8,
            "accumulation": 2,
            "precision": "fp32",
            "channels_last": False,
            "device": "cpu",
            "threads": 1,
            "ema": 0.9,
            "log_every": 1,
            "checkpoint_every": 2,
            **training,
        },
        "evaluation": {"dev": "synthetic:identities=6,pairs=40", "teacher": False},
    }
