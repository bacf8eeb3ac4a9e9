"""A face model in a file of another format, followed by its embeddings."""

import logging
import math
from pathlib import Path
from typing import Self

import torch
from torch import nn

from facekd.common.errors import FacekdError, UsageError
from facekd.common.text import plain
from facekd.distillation.teachers.base import Teacher, TeacherOrigin, TeacherOutput, TeacherPath, register_teacher
from facekd.recipe.methods import MethodSettings
from facekd.runtimes.base import model_suffixes
from facekd.runtimes.embedder import FileEmbedder
from facekd.runtimes.files import ModelFiles
from facekd.runtimes.opening import describe_input, open_session
from facekd.schemas.input_spec import InputSpec

log = logging.getLogger(__name__)


@register_teacher("model_file")
class ModelFileTeacher(Teacher):
    """Any face model in a file that some runtime opens, on the CPU; its embeddings alone are followed.

    Raises:
        UsageError: no such file, or its runtime is not installed.
        FacekdError: the file cannot be read, it has not one image input of normalised values and one embedding output
            of a known width, it has a fixed batch where its format could leave it open, or it fails on a batch.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        if not path.exists():
            raise UsageError(f"no teacher at {path}: give a bundle folder or a file of {', '.join(model_suffixes())}")
        session = open_session(path, threads=torch.get_num_threads())
        encoding = describe_input(session)
        for note in encoding.notes:
            log.warning("%s", plain(note))
        shapes = f"teacher {path} maps {list(session.input.shape)} to {list(session.output.shape)}"
        if encoding.values != "normalised" or encoding.spec.mean != InputSpec().mean or not session.output.is_embedding:
            raise FacekdError(f"{shapes}: a model from normalised images to an embedding [b, e] is needed")
        if (encoding.batch and session.runtime.free_batch) or None in session.output.shape[1:]:
            raise FacekdError(f"{shapes}: export it with a batch of any size and an embedding of a fixed width")
        self.embedding_width = math.prod(size or 1 for size in session.output.shape[1:])
        self._model = FileEmbedder(session, encoding, embedding_width=self.embedding_width)
        self.origin = TeacherOrigin(path.stem, ModelFiles.of(path).sha256)

    @classmethod
    def fits(cls, found: TeacherPath) -> bool:
        """Whether the path is that of a model file, there or not."""
        return found.path.suffix.lower() in model_suffixes()

    @classmethod
    def open(cls, found: TeacherPath, settings: MethodSettings, student: nn.Module) -> Self:
        """The file's model."""
        return cls(found.path)

    def forward(self, x: torch.Tensor) -> TeacherOutput:
        """Normalised images [b, 3, H, W] -> raw embeddings float32 [b, e], without gradient."""
        embedding = self._model.embed_normalised(x.detach().float().cpu().numpy())
        return TeacherOutput(None, None, torch.from_numpy(embedding).to(x.device))
