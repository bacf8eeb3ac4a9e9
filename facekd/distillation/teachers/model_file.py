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
from facekd.runtimes.opening import describe_input, open_artefact, open_session
from facekd.schemas.input_spec import StatedInput
from facekd.schemas.manifest import MANIFEST_FILE

log = logging.getLogger(__name__)


@register_teacher("model_file")
class ModelFileTeacher(Teacher):
    """Any face model in a file that some runtime opens, on the CPU; its embeddings alone are followed.

    A file with a fixed batch is run in steps of it, the last one padded.

    Args:
        path: the file, or an artefact that facekd exported, whose manifest states its input.
        stated: what somebody says of a file's input and output.

    Raises:
        UsageError: no such file, its runtime is not installed, or something is stated of an artefact.
        FacekdError: the file cannot be read, it has not one image input and one embedding output of a known width, or
            it fails on a batch.
    """

    takes_stated_input = True
    model: FileEmbedder

    def __init__(self, path: Path, stated: StatedInput = StatedInput()) -> None:  # noqa: B008  (frozen in effect)
        super().__init__()
        if not path.exists():
            raise UsageError(f"no teacher at {path}: give a bundle folder or a file of {', '.join(model_suffixes())}")
        threads = torch.get_num_threads()
        if (path / MANIFEST_FILE).is_file():
            if stated.stated:
                raise UsageError(f"{path} states its own input in {MANIFEST_FILE}: leave {_fields(stated)} out")
            self.model = open_artefact(path, threads=threads)
        else:
            self.model = _open_file(path, stated, threads)
        self.input = self.model.encoding.fed
        self.embedding_width = self.model.embedding_width
        self.origin = TeacherOrigin(path.stem, ModelFiles.of(path).sha256)

    @classmethod
    def fits(cls, found: TeacherPath) -> bool:
        """Whether the path is that of a model file, there or not, or of an artefact."""
        return found.path.suffix.lower() in model_suffixes() or (found.path / MANIFEST_FILE).is_file()

    @classmethod
    def open(cls, found: TeacherPath, settings: MethodSettings, student: nn.Module) -> Self:
        """The file's model."""
        return cls(found.path, found.stated)

    def forward(self, x: torch.Tensor) -> TeacherOutput:
        """Normalised images [b, 3, H, W] -> raw embeddings float32 [b, e], without gradient."""
        embedding = self.model.embed_normalised(x.detach().float().cpu().numpy())
        return TeacherOutput(None, None, torch.from_numpy(embedding).to(x.device))


def _open_file(path: Path, stated: StatedInput, threads: int) -> FileEmbedder:
    session = open_session(path, threads=threads)
    encoding = describe_input(session, input_spec=stated.spec, layout=stated.layout, output=stated.output)
    for note in encoding.notes:
        log.warning("%s", plain(note))
    shapes = f"teacher {path} maps {list(session.input.shape)} to {list(session.output.shape)}"
    if not session.output.is_embedding:
        raise FacekdError(f"{shapes}: a model from images to an embedding [b, e] is needed")
    if None in session.output.shape[1:]:
        raise FacekdError(f"{shapes}: export it with an embedding of a fixed width")
    width = math.prod(size or 1 for size in session.output.shape[1:])
    return FileEmbedder(session, encoding, embedding_width=width)


def _fields(stated: StatedInput) -> str:
    return ", ".join(f"teacher.{name}" for name in stated.stated)
