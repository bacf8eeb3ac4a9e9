"""Whether a teacher is fed as it was trained, judged on the training faces before anything is trained."""

from pathlib import Path

import numpy as np
import torch

from facekd.data.source import Source
from facekd.distillation.teachers.base import Teacher
from facekd.distillation.teachers.cached import CachedTeacher
from facekd.distillation.teachers.model_file import ModelFileTeacher
from facekd.recipe.schema import TeacherConfig
from facekd.runtimes.feedings import Embed, parts, ways_by_spec, ways_of
from facekd.runtimes.input_verdict import input_problem, recipe_fields
from facekd.schemas.input_spec import InputSpec


def teacher_problem(teacher: Teacher, config: TeacherConfig, source: Source, *, progress: bool = False) -> str | None:
    """In one line: another usual way to feed the teacher separates the people of `source` clearly better.

    Args:
        teacher: on the CPU or any device; nothing of it changes.
        config: the recipe's section; with `trust_input` nothing is looked at.
        source: the training faces.
        progress: show a bar on stderr.
    """
    if config.trust_input:
        return None
    if isinstance(teacher, CachedTeacher):
        teacher = teacher.network
    if isinstance(teacher, ModelFileTeacher):
        ways, states_its_own = ways_of(teacher.model), Path(config.bundle).is_dir()
    else:
        ways, states_its_own = ways_by_spec(teacher.input, _by(teacher)), True
    return input_problem(
        ways,
        source,
        name=f"teacher {config.bundle}",
        model_sha256=teacher.origin.sha256 and f"{teacher.origin.sha256} {config.output} {type(teacher).__name__}",
        as_options=None if states_its_own else recipe_fields,
        go_on="--trust-input",
        progress=progress,
    )


def _by(teacher: Teacher) -> Embed:
    device = next((tensor.device for tensor in (*teacher.parameters(), *teacher.buffers())), torch.device("cpu"))

    @torch.no_grad()
    def embed(spec: InputSpec, images: np.ndarray) -> np.ndarray:
        batches = [spec.normalise(torch.from_numpy(part).to(device)) for part in parts(images)]
        return np.concatenate([teacher(batch).embedding.float().cpu().numpy() for batch in batches])

    return embed
