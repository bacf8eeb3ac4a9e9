"""A foreign ONNX face model as a teacher: it gives embeddings to regress, and nothing else."""

import hashlib
from pathlib import Path

import torch
from torch import nn

from facekd.errors import FacekdError, UsageError


class OnnxTeacher(nn.Module):
    """Any ONNX face model, run by ONNX Runtime on the CPU: normalised images [b, 3, H, W] -> embeddings [b, e].

    Raises:
        UsageError: no such file.
        FacekdError: ONNX Runtime is not installed, the file is no ONNX model, or it has not one image input and one
            embedding output.
    """

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
            reason = " ".join(str(error).split())[:200]
            raise FacekdError(f"teacher {path} is not an ONNX model that runs here: {reason}") from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or len(outputs[0].shape) != 2:
            raise FacekdError(f"teacher {path}: expected one image input and an embedding [b, e], see its graph")
        self._input = inputs[0].name
        self.embedding_width = int(outputs[0].shape[1])
        self.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised images [b, 3, H, W] -> raw embeddings float32 [b, e], without gradient."""
        (embedding,) = self._session.run(None, {self._input: x.detach().cpu().numpy()})[:1]
        return torch.from_numpy(embedding).to(x.device)
