"""Any network as a teacher: one class that says what it makes of a batch, named in the recipe."""

import os
import sys
import tempfile
from pathlib import Path

import torch
from torch import nn

import facekd

sys.modules.setdefault("your_own_teacher", sys.modules[__name__])


class TorchScriptTeacher(facekd.Teacher):
    """A TorchScript file: normalised images [b, 3, 112, 112] -> embeddings [b, e]. It never learns."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.network = torch.jit.load(str(path)).eval()
        for parameter in self.network.parameters():
            parameter.requires_grad_(False)
        self.embedding_width = self.network(torch.zeros(1, 3, 112, 112)).shape[1]

    @classmethod
    def fits(cls, found) -> bool:
        return found.path.suffix == ".ts"

    @classmethod
    def open(cls, found, settings, student) -> "TorchScriptTeacher":
        return cls(found.path)

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> facekd.TeacherOutput:
        # Embeddings alone: losses that read tokens (urfm) refuse this teacher in one line.
        return facekd.TeacherOutput(None, None, self.network(x))


def main(out: Path, steps: int = 6) -> Path:
    """Distils a student from a TorchScript file; returns its bundle."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(3 * 14 * 14, 128))
    out.mkdir(parents=True, exist_ok=True)
    torch.jit.trace(network, torch.zeros(1, 3, 112, 112)).save(str(out / "teacher.ts"))

    recipe = facekd.load_recipe(
        "quickstart-undistilled",
        [
            f"training.max_steps={steps}",
            "data.source=synthetic:identities=20,images=10",
            f"teacher.bundle={out / 'teacher.ts'}",
            "teacher.name=your_own_teacher:TorchScriptTeacher",
            "distillation.embedding.weight=10",
            'evaluation.report=["synthetic:identities=20,pairs=200"]',
        ],
    )
    result = facekd.run_recipe(recipe, out=out / "student")
    print(f"student: {result.bundle}")
    return result.bundle


if __name__ == "__main__":
    # A recipe that names code runs it: facekd asks you to trust the module by name.
    os.environ["FACEKD_TRUSTED_MODULES"] = "your_own_teacher"
    with tempfile.TemporaryDirectory() as folder:
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(folder))
