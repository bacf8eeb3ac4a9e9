"""Distil with a PyTorch DataLoader and a loss of your own, in facekd's training loop."""

import sys
import tempfile
from pathlib import Path

import torch
from pydantic import Field
from torch.utils.data import DataLoader, Dataset

import facekd

sys.modules.setdefault("distil_with_your_own_dataloader", sys.modules[__name__])


class NormSettings(facekd.LossSettings):
    """What the recipe may say of the loss."""

    weight: float = Field(default=0.1, gt=0)


class NormLoss(facekd.DistillationLoss):
    """The student's embeddings become as long as the teacher's: the norm tells how good a photograph is."""

    Settings = NormSettings

    def __init__(self, settings: NormSettings, shapes: facekd.Shapes) -> None:
        super().__init__()
        self.weights = {"norm": settings.weight}

    def forward(self, batch: facekd.DistillationBatch) -> dict[str, torch.Tensor]:
        student, teacher = batch.student_embedding.norm(dim=1), batch.teacher_embedding.detach().norm(dim=1)
        return {"norm": (student / teacher - 1).square().mean()}


class Faces(Dataset):
    """Your own data: anything that gives uint8 RGB [3, 112, 112] and a label."""

    def __init__(self, faces: facekd.Source) -> None:
        self.faces = faces

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return torch.from_numpy(self.faces.read(i).transpose(2, 0, 1).copy()), int(self.faces.labels[i])


def main(out: Path, steps: int = 6) -> Path:
    """Trains a small teacher and a student that follows it; returns the student's bundle."""
    faces = facekd.open_source("synthetic:identities=20,images=10")
    teacher = facekd.load_recipe(
        "quickstart-teacher",
        [f"training.max_steps={steps}", "data.source=synthetic:identities=20,images=10", "evaluation.report=[]"],
    )
    teacher_bundle = facekd.run_recipe(teacher, out=out / "teacher").bundle

    recipe = facekd.load_recipe(
        "quickstart-undistilled",
        [
            f"training.max_steps={steps}",
            f"teacher.bundle={teacher_bundle}",
            # The recipe names this file's class: code, so it must be trusted (see below).
            "distillation=[{embedding: {weight: 10}}, {'distil_with_your_own_dataloader:NormLoss': {weight: 0.1}}]",
        ],
    )
    task = facekd.build_task(recipe, faces.num_identities)
    loader = DataLoader(Faces(faces), batch_size=32, shuffle=True, drop_last=True)
    result = facekd.train(recipe, task, loader, out=out / "student")
    print(f"{result.progress.step} steps on {len(loader)} batches an epoch")

    model = recipe.model
    card = facekd.describe(
        task.student, kind="student", name="mine", architecture=model.name, arguments=model.arguments
    )
    bundle = facekd.save_bundle(out / "bundle", task.student, card)
    verified = facekd.evaluate_pairs(bundle, "synthetic:identities=20,pairs=100")
    print(f"accuracy on synthetic pairs: {verified.accuracy_percent} %, AUC {verified.auc:.3f}")
    return bundle


if __name__ == "__main__":
    import os

    os.environ["FACEKD_TRUSTED_MODULES"] = "distil_with_your_own_dataloader"
    with tempfile.TemporaryDirectory() as folder:
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(folder))
