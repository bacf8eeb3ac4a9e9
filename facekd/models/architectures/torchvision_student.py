"""Any torchvision CNN as a student: its own last map, MobileFaceNet's head on top. Never with downloaded weights."""

import difflib
import itertools
from typing import Any

import torch
from torch import nn

from facekd.common.errors import UsageError, require_modules
from facekd.models.architectures.layers import StudentNetwork, global_depthwise_head, initialise_convolutions
from facekd.models.registry import register_model

_CLASSIFIER = ("avgpool", "fc", "classifier", "head", "dropout")
"""Where torchvision's networks go from the map to classes."""


class TorchvisionStudent(StudentNetwork):
    """A torchvision CNN up to its pooling, then a global depthwise convolution to the embedding.

    Args:
        name: of the network, for messages.
        body: [b, 3, H, W] -> [b, c, h, w].
        embedding_width: e.
        image_size: (height, width) in pixels; the head's kernel is the grid this gives.

    Raises:
        UsageError: the body gives no map.
    """

    def __init__(self, *, name: str, body: nn.Module, embedding_width: int, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.body = body
        self.embedding_width = embedding_width
        try:
            with torch.no_grad():
                shape = list(body.eval()(torch.zeros(1, 3, *image_size)).shape)
        except (AssertionError, RuntimeError, TypeError, AttributeError, NotImplementedError) as error:
            raise UsageError(
                f"torchvision/{name} is not a CNN student: its layers are no chain to one map ({error})"
            ) from None
        if len(shape) != 4 or min(shape[2:]) < 1:
            raise UsageError(f"torchvision/{name} is not a CNN student: its features are {shape}, not [b, c, h, w]")
        body.train()
        self.feature_channels: int = shape[1]
        self.feature_grid: tuple[int, int] = (shape[2], shape[3])
        self.head = global_depthwise_head(self.feature_channels, self.feature_grid, embedding_width)
        initialise_convolutions(self.head)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised images [b, 3, H, W] -> the body's last map [b, c, h, w]."""
        output: torch.Tensor = self.body(x)
        return output


@register_model(role="student")
def torchvision_student(
    *,
    model: str = "mobilenet_v3_small",
    embedding_width: int = 512,
    img_size: int | tuple[int, int] = 112,
    **body_arguments: Any,
) -> TorchvisionStudent:
    """Any torchvision CNN (also as torchvision/<name>)."""
    require_modules(f"model torchvision/{model}", ["torchvision"], extra="all")
    from torchvision import models

    names = models.list_models(module=models)
    if model not in names:
        close = difflib.get_close_matches(model, names, n=3, cutoff=0.5)
        hint = f"; did you mean {', '.join(close)}?" if close else ""
        raise UsageError(f"torchvision has no model {model!r}{hint}")
    if weights := [key for key in body_arguments if "weights" in key or key in ("pretrained", "progress")]:
        raise UsageError(
            f"torchvision/{model}: {weights[0]!r} is not available: nothing is downloaded; start from a file with "
            "model.weights"
        )
    try:
        network = models.get_model(model, weights=None, **body_arguments)
    except (TypeError, ValueError) as error:
        raise UsageError(f"torchvision/{model}: torchvision refuses {body_arguments} ({error})") from error
    layers = itertools.takewhile(lambda child: child[0] not in _CLASSIFIER, network.named_children())
    body = nn.Sequential()
    for name, layer in layers:
        body.add_module(name, layer)
    size = (img_size, img_size) if isinstance(img_size, int) else (img_size[0], img_size[1])
    return TorchvisionStudent(name=model, body=body, embedding_width=embedding_width, image_size=size)
