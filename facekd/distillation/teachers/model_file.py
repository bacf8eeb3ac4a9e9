"""A face model in a file of another format, followed by its embeddings."""

from pathlib import Path
from typing import Self

import torch
from torch import nn

from facekd.common.errors import FacekdError, UsageError, one_line
from facekd.common.hashing import file_sha256
from facekd.distillation.teachers.base import Teacher, TeacherOrigin, TeacherOutput, TeacherPath, register_teacher
from facekd.recipe.methods import MethodSettings


@register_teacher("model_file")
class ModelFileTeacher(Teacher):
    """Any ONNX face model, run by ONNX Runtime on the CPU; its embeddings alone are followed.

    Raises:
        UsageError: no such file.
        FacekdError: ONNX Runtime is not installed, the file is no ONNX model, it has not one image input of any batch
            and one embedding output of a known width, or it fails on a batch.
    """

    SUFFIXES = (".onnx",)

    def __init__(self, path: Path) -> None:
        super().__init__()
        if not path.is_file():
            raise UsageError(f"no teacher at {path}: give a bundle folder or an .onnx file")
        try:
            import onnxruntime
        except ImportError as error:
            raise FacekdError("an ONNX teacher needs ONNX Runtime: pip install 'facekd[onnx]'") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises its own types, which share no base but Exception
            raise FacekdError(
                f"teacher {path} is not an ONNX model that runs here: {one_line(error, limit=200)}"
            ) from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or len(outputs[0].shape) != 2:
            raise FacekdError(f"teacher {path}: expected one image input and an embedding [b, e], see its graph")
        batch, width = inputs[0].shape[0], outputs[0].shape[1]
        if isinstance(batch, int) or not isinstance(width, int):
            raise FacekdError(
                f"teacher {path} maps {inputs[0].shape} to {outputs[0].shape}: export it with a batch of any size and "
                "an embedding of a fixed width"
            )
        self._path = path
        self._input = inputs[0].name
        self.embedding_width = width
        self.origin = TeacherOrigin(path.stem, file_sha256(path))

    @classmethod
    def fits(cls, found: TeacherPath) -> bool:
        """Whether the path is that of a model file, there or not."""
        return found.path.suffix in cls.SUFFIXES

    @classmethod
    def open(cls, found: TeacherPath, settings: MethodSettings, student: nn.Module) -> Self:
        """The file's model."""
        return cls(found.path)

    def forward(self, x: torch.Tensor) -> TeacherOutput:
        """Normalised images [b, 3, H, W] -> raw embeddings float32 [b, e], without gradient."""
        images = x.detach().float().cpu().numpy()
        try:
            embedding = self._session.run(None, {self._input: images})[0]
        except Exception as error:
            raise FacekdError(
                f"teacher {self._path} failed on input {images.shape}: {one_line(error, limit=200)}"
            ) from error
        return TeacherOutput(None, None, torch.from_numpy(embedding).to(x.device))
