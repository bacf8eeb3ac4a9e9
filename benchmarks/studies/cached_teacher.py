"""What a teacher that is run once saves: steps with its stored outputs, the filling, and the loader that reads them.

    python -m facekd.benchmarks.studies.cached_teacher celeba-embedding [--set a.b=c ...] [--images 512] [--repeats 9]

Steps are on the recipe's own batch and networks. Alternatives take turns, so that a disturbance of the machine meets
all of them; ratios are of medians.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import torch

from facekd.benchmarks.machine import processor_name
from facekd.benchmarks.studies.training import Timing, in_turns, undistilled, whole_step
from facekd.common.errors import FacekdError
from facekd.common.printing import print_json
from facekd.common.table import Table
from facekd.data.dataset import FaceDataset
from facekd.data.source import Source
from facekd.data.subset import Subset
from facekd.distillation.build import build_task
from facekd.distillation.fill_cache import fill_cache, frozen_teacher
from facekd.distillation.teacher_cache import TeacherCache
from facekd.distillation.teachers.base import Teacher
from facekd.recipe import Recipe, load_recipe
from facekd.training.precision import Precision
from facekd.training.reproducibility import seed_everything
from facekd.training.run import open_recipe_source
from facekd.training.stream import BatchStream


def measure(recipe: Recipe, *, images: int = 512, repeats: int = 9) -> dict[str, Any]:
    """All figures of a recipe on this machine's CPU.

    Args:
        recipe: its teacher is frozen.
        images: of its faces that are used.
        repeats: timed passes of each variant, after one that is not timed.
    """
    seed_everything(recipe.seed)
    whole = open_recipe_source(recipe.data)
    source = Subset(whole, range(min(images, len(whole))))
    teacher = frozen_teacher(recipe)
    with tempfile.TemporaryDirectory() as folder:
        filled = fill_cache(recipe, source, Path(folder) / "cache", teacher=teacher)
        cached = _with_cache(recipe, filled.cache.folder)
        steps = in_turns(_steps(recipe, cached, source, filled.cache), repeats)
        fillings = in_turns(_fillings(recipe, source, teacher, filled.batch_size, Path(folder)), max(3, repeats // 3))
        loading = in_turns(_loading(recipe, source, filled.cache), repeats)
    return {
        "recipe": recipe.name,
        "batch_size": recipe.training.batch_size,
        "teacher_batch_size": filled.batch_size,
        "images": len(source),
        "threads": torch.get_num_threads(),
        "device": processor_name(),
        "versions": {"torch": str(torch.__version__), "opencv": cv2.__version__},
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "median_ms": {name: 1000 * one.median_s for part in (steps, fillings, loading) for name, one in part.items()},
        "cpu_ms": {name: 1000 * one.median_cpu_s for part in (steps, fillings, loading) for name, one in part.items()},
        "recalled_over_plain": _ratio(steps, "step, outputs recalled", "plain step"),
        "recalled_over_without_teacher": _ratio(steps, "step, outputs recalled", "step, teacher taken out"),
        "live_over_recalled": _ratio(steps, "step, teacher runs", "step, outputs recalled"),
        "filling_over_teacher": _ratio(fillings, "teacher alone", "filling"),
        "loader_images_per_second": recipe.training.batch_size / loading["loader, outputs read"].median_s,
        "loader_over_plain_loader": _ratio(loading, "loader", "loader, outputs read"),
    }


def _steps(recipe: Recipe, cached: Recipe, source: Source, cache: TeacherCache) -> dict[str, Callable[[], None]]:
    nhwc = recipe.training.channels_last is True
    usual = Precision(name="fp32", channels_last=nhwc, device=torch.device("cpu"))
    batch = BatchStream(cached, source).first_batch()
    places = {source.key(i): i for i in range(len(source))}
    indices = [places[key] for key in batch["keys"]]
    exact = {**batch, "stored": {name: value.float() for name, value in batch["stored"].items()}}
    recalled = whole_step(build_task(cached, source).train(), batch, usual)

    def read_and_step() -> None:
        cache.read(0, indices)
        recalled()

    return {
        "plain step": whole_step(build_task(undistilled(recipe), source).train(), batch, usual),
        "step, teacher runs": whole_step(
            build_task(recipe, source).train(), {name: batch[name] for name in ("images", "labels", "keys")}, usual
        ),
        "step, teacher taken out": whole_step(build_task(cached, source).train(), exact, usual),
        "step, outputs recalled": read_and_step,
    }


def _fillings(
    recipe: Recipe, source: Source, teacher: Teacher, batch_size: int, folder: Path
) -> dict[str, Callable[[], None]]:
    noise = torch.randn(batch_size, 3, *teacher.input.size)
    count = [0]

    def fill() -> None:
        count[0] += 1
        fill_cache(recipe, source, folder / str(count[0]), teacher=teacher, batch_size=batch_size)

    @torch.no_grad()
    def alone() -> None:
        for _ in range(-(-len(source) // batch_size)):
            teacher(noise)

    return {"filling": fill, "teacher alone": alone}


def _loading(recipe: Recipe, source: Source, cache: TeacherCache) -> dict[str, Callable[[], None]]:
    batch = [(0, i % len(source)) for i in range(recipe.training.batch_size)]

    def load(stored: TeacherCache | None) -> Callable[[], None]:
        dataset = FaceDataset(source, augmentation=recipe.data.augmentation, stored=stored)

        def read() -> None:
            with _one_thread():
                dataset.__getitems__(batch)

        return read

    return {"loader": load(None), "loader, outputs read": load(cache)}


@contextmanager
def _one_thread() -> Iterator[None]:
    """OpenCV as in a loader's process."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(0)
    yield
    cv2.setNumThreads(threads)


def _with_cache(recipe: Recipe, folder: Path) -> Recipe:
    assert recipe.teacher is not None
    return recipe.model_copy(update={"teacher": recipe.teacher.model_copy(update={"cache": str(folder)})})


def _ratio(timings: dict[str, Timing], over: str, under: str) -> float:
    return timings[over].median_s / timings[under].median_s


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Measure what storing a recipe's teacher's outputs saves.")
    parser.add_argument("recipe", help="a YAML file or a shipped recipe")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="override a field: a.b=c")
    parser.add_argument("--images", type=int, default=512, help="training faces that are used")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads; default: torch's choice")
    parser.add_argument("--repeats", type=int, default=9, help="timed passes of each variant")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    start = time.perf_counter()
    try:
        figures = measure(load_recipe(options.recipe, options.settings), images=options.images, repeats=options.repeats)
    except FacekdError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    if options.json:
        print_json(figures)
        return 0
    rows = [(name, f"{value:.0f}", f"{figures['cpu_ms'][name]:.0f}") for name, value in figures["median_ms"].items()]
    ratios = [f"{name.replace('_', ' ')}: {value:.2f}" for name, value in figures.items() if "_over_" in name]
    caption = "\n".join(
        [*ratios, f"loader with the outputs: {figures['loader_images_per_second']:.0f} images/s a core"]
    )
    title = f"{figures['recipe']}: batch {figures['batch_size']}, {figures['threads']} thread(s), {figures['device']}"
    Table(("work", "median ms", "CPU ms"), rows, title, f"{caption}\n{time.perf_counter() - start:.0f} s").print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
