"""Trains one small distillation on 1, 2 and 4 ranks, and again in sessions on changing numbers of ranks.

    python train_ranks.py OUT TEACHER

The ranks are forks of this interpreter. Each run's folder lies in OUT by the name of its sessions, such as `2-3`.
"""

import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import forked_ranks
import tiny_models
from torch import nn

from facekd.distillation.task import DistillationTask
from facekd.distributed import collectives
from facekd.models.bundle import load_teacher
from facekd.recipe import Recipe
from facekd.training.log import Reporter
from facekd.training.run import run_recipe


def recipe(teacher: Path, **training: object) -> Recipe:
    """Losses that are means over images: one that compares images of a batch depends on how it is split."""
    content = tiny_models.recipe_content(teacher, **{"batch_size": 12, "epochs": 2, **training})
    content |= {"model": {"name": "tiny_models:steady_student"}, "evaluation": {}}
    content["data"] = {"source": "synthetic:identities=8,images=6", "workers": 0}
    content["distillation"] = [{"embedding": {}}, {"apt": {"prompts": 2, "keep": "embedding", "interval": 2}}]
    return Recipe.model_validate(content)


def undistilled(teacher: Path, **training: object) -> Recipe:
    plain = recipe(teacher, **training)
    return plain.model_copy(update={"distillation": [], "teacher": None})


def train(out: Path, settings: Recipe, *, last: bool) -> None:
    """One session: the run to its end, or its first step alone."""
    result = run_recipe(settings, out=out, resume=True, reporter=Reporter(quiet=True))
    assert result.finished == last, (collectives.rank(), result)


def main() -> int:
    out, teacher = Path(sys.argv[1]), Path(sys.argv[2])
    load_teacher(teacher)  # imports what every fork would have to import

    def session(name: str, ranks: int, *, last: bool) -> int:
        settings = recipe(teacher, max_minutes=None if last else 1e-9)
        return max(forked_ranks.run(lambda: train(out / name, settings, last=last), ranks))

    status = max(session(str(ranks), ranks, last=True) for ranks in (1, 2, 4))
    status |= session("2-", 2, last=False)
    for ranks in (1, 2, 3, 4):
        shutil.copytree(out / "2-", out / f"2-{ranks}")
        status |= session(f"2-{ranks}", ranks, last=True)

    # The tracing is torch.compile's real one; its C++ code generation takes half a minute and is not ours to test.
    DistillationTask.compile = lambda task: nn.Module.compile(task, backend="aot_eager")  # type: ignore[assignment]
    plain = undistilled(teacher)
    combined = undistilled(teacher, precision="bf16", channels_last=True, compile=True)
    status |= max(forked_ranks.run(lambda: train(out / "plain", plain, last=True), 1))
    return status | max(forked_ranks.run(lambda: train(out / "combined", combined, last=True), 2))


if __name__ == "__main__":
    sys.exit(main() != 0)
