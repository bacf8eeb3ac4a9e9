"""Teachers that are no prompted Transformer: a CNN with its last map, and a foreign ONNX model's embeddings."""

from pathlib import Path

import torch
from torch import nn

from facekd.common.errors import FacekdError, UsageError
from facekd.common.hashing import file_sha256
from facekd.distillation.prompting import PromptedViews
from facekd.models.registry import Backbone


class CnnTeacher(nn.Module):
    """A frozen CNN whose last map's pixels are its tokens, and whose own head makes them an embedding.

    Its parameters never require gradients and it never leaves eval mode.

    Args:
        backbone: an IResNet or any other network of the `Backbone` protocol.

    Attributes:
        grid: (h, w) of the tokens; N = h * w.
        token_width: d, the map's channels.
        embedding_width: e.

    Raises:
        UsageError: `backbone` has no feature map and head of its own.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        if not isinstance(backbone, Backbone):
            raise UsageError(
                f"the teacher is a {type(backbone).__name__}: valid are a Transformer (swin_teacher, vit_teacher, "
                "timm_teacher), a CNN with forward_features and forward_head (facekd.models.registry.Backbone), or an "
                ".onnx face model whose embeddings alone are followed"
            )
        self.grid = backbone.feature_grid
        self.token_width = backbone.feature_channels
        self.embedding_width = backbone.embedding_width
        self.teacher = backbone.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "CnnTeacher":
        """Sets the mode of the wrapper; the teacher inside stays in eval (its BN and dropout must not move)."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, x: torch.Tensor) -> PromptedViews:
        """Images [b, 3, H, W], normalised as the teacher expects -> its tokens, no prompts, its raw embeddings."""
        features = self.teacher.forward_features(x)
        return PromptedViews(features.flatten(2).transpose(1, 2), None, self.teacher.forward_head(features))

    def forward_head(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens [b, N, d], row-major over the grid -> raw embeddings [b, e], by the teacher's own head."""
        return self.teacher.forward_head(tokens.transpose(1, 2).unflatten(2, self.grid))


class OnnxTeacher(nn.Module):
    """Any ONNX face model, run by ONNX Runtime on the CPU: normalised images [b, 3, H, W] -> embeddings [b, e].

    Raises:
        UsageError: no such file.
        FacekdError: ONNX Runtime is not installed, the file is no ONNX model, it has not one image input of any batch
            and one embedding output of a known width, or it fails on a batch.
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
            raise FacekdError(f"teacher {path} is not an ONNX model that runs here: {_one_line(error)}") from error
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
        self.sha256 = file_sha256(path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised images [b, 3, H, W] -> raw embeddings float32 [b, e], without gradient."""
        images = x.detach().float().cpu().numpy()
        try:
            embedding = self._session.run(None, {self._input: images})[0]
        except Exception as error:
            raise FacekdError(f"teacher {self._path} failed on input {images.shape}: {_one_line(error)}") from error
        return torch.from_numpy(embedding).to(x.device)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
