"""Any timm CNN as a student: its own feature map, MobileFaceNet's head on top. Never with downloaded weights."""

import difflib
from typing import Any

import torch
from torch import nn

from facekd.common.errors import UsageError
from facekd.common.validation import shown
from facekd.models.architectures.layers import StudentNetwork, global_depthwise_head, initialise_convolutions
from facekd.models.registry import register_model


class TimmStudent(StudentNetwork):
    """A timm CNN up to `forward_features`, then a global depthwise convolution to the embedding.

    Args:
        body: a timm model whose `forward_features` maps [b, 3, H, W] to [b, c, h, w].
        embedding_width: e.
        image_size: (height, width) in pixels; the head's kernel is the grid this gives.
        features: the stage whose map distillation looks at, as timm counts them; None, the last map, which the
            embedding is made of in any case.

    Raises:
        UsageError: the body's features are not a channels-first map, or it has no such stage.
    """

    def __init__(
        self, *, body: nn.Module, embedding_width: int, image_size: tuple[int, int], features: int | None = None
    ) -> None:
        super().__init__()
        self.body: Any = body
        self.embedding_width = embedding_width
        shape = _probe_and_prune(self.body, image_size)
        if len(shape) != 4 or shape[1] != self.body.num_features:
            raise UsageError(
                f"timm/{type(body).__name__} is not a CNN student: its features are {list(shape)}, not "
                f"[b, {self.body.num_features}, h, w]; choose a convolutional model, or timm_teacher for a Transformer"
            )
        self.feature_channels: int = shape[1]
        self.feature_grid: tuple[int, int] = (shape[2], shape[3])
        self.head = global_depthwise_head(self.feature_channels, self.feature_grid, embedding_width)
        initialise_convolutions(self.head)
        self.features = features
        if features is not None:
            tapped = self._probe_tap(image_size, shape)
            self.feature_channels, self.feature_grid = tapped[1], (tapped[2], tapped[3])

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised images [b, 3, H, W] -> the body's last map [b, c, h, w]."""
        output: torch.Tensor = self.body.forward_features(x)
        return output

    def forward_tapped(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised images [b, 3, H, W] -> the map that distillation looks at [b, c, h, w], embeddings [b, e]."""
        if self.features is None:
            last = tapped = self.forward_features(x)
        else:
            last, (tapped,) = self.body.forward_intermediates(x, indices=[self.features])
        return tapped, self.forward_head(last)

    def _probe_tap(self, image_size: tuple[int, int], last: torch.Size) -> torch.Size:
        device = next(self.body.parameters()).device
        modes = [(module, module.training) for module in self.body.modules()]
        self.body.eval()
        try:
            with torch.no_grad():
                image = torch.zeros(1, 3, *image_size, device=device)
                output, (tapped,) = self.body.forward_intermediates(image, indices=[self.features])
        except (AttributeError, AssertionError, IndexError, ValueError, TypeError) as error:
            stages = [stage["reduction"] for stage in getattr(self.body, "feature_info", [])]
            raise UsageError(
                f"timm/{type(self.body).__name__} has no map features={self.features} ({error}); its maps are smaller "
                f"than the image by {', '.join(map(str, stages)) or 'nothing that it states'}: count from 0, or from "
                "the end with -1"
            ) from error
        finally:
            for module, training in modes:
                module.training = training
        if output.shape != last or tapped.ndim != 4:
            raise UsageError(f"timm/{type(self.body).__name__} does not show its maps as it runs: leave features out")
        result: torch.Size = tapped.shape
        return result


@register_model(role="student")
def timm_student(
    *,
    model: str = "mobilenetv3_small_100",
    embedding_width: int = 512,
    img_size: int | tuple[int, int] = 112,
    stem_stride: int | None = None,
    features: int | None = None,
    **body_arguments: Any,
) -> TimmStudent:
    """Any timm CNN (also as timm/<name>); stem_stride=1 or features=-2 give distillation a 7x7 map instead of 4x4."""
    check_timm_name(model)
    check_timm_arguments(model, body_arguments)
    import timm

    size = (img_size, img_size) if isinstance(img_size, int) else (img_size[0], img_size[1])
    try:
        body = timm.create_model(model, pretrained=False, num_classes=0, global_pool="", **body_arguments)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise UsageError(f"timm/{model}: timm refuses {body_arguments or 'these arguments'} ({error})") from error
    if stem_stride is not None:
        _set_stem_stride(body, stem_stride)
    return TimmStudent(body=body, embedding_width=embedding_width, image_size=size, features=features)


def check_timm_name(name: str) -> None:
    """Raises UsageError, with the nearest valid names, unless timm has a model of that name."""
    import timm

    names = timm.list_models()
    if name not in names:
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(close)}? " if close else ""
        raise UsageError(f"timm has no model {shown(name)}; {hint}timm.list_models() names all {len(names)}")


def check_timm_arguments(name: str, arguments: dict[str, Any]) -> None:
    """Raises UsageError for arguments by which timm would fetch or read weights: models here start fresh."""
    for key in ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"):
        if key in arguments:
            raise UsageError(f"timm/{name}: {shown(key)} is not available: nothing is downloaded, models start fresh")


def _probe_and_prune(body: Any, image_size: tuple[int, int]) -> torch.Size:
    """The features' shape for one image; children that `forward_features` does not run are dropped from `body`.

    A classifier's own head (MobileNetV3's conv_head, a final norm) would otherwise stay as parameters that never
    receive a gradient, which distributed training refuses and which would be exported and counted.
    """
    ran: set[nn.Module] = set()
    handles = [module.register_forward_hook(lambda m, i, o: ran.add(m)) for module in body.modules()]
    was_training = body.training
    body.eval()
    try:
        with torch.no_grad():
            parameter = next(body.parameters())
            features = body.forward_features(torch.zeros(1, 3, *image_size, device=parameter.device))
    except (AssertionError, RuntimeError) as error:
        raise UsageError(
            f"timm/{type(body).__name__} cannot take images of {image_size[0]}x{image_size[1]} ({error})"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
        body.train(was_training)
    for name, child in list(body.named_children()):
        if not any(module in ran for module in child.modules()):
            setattr(body, name, nn.Identity())
    result: torch.Size = features.shape
    return result


def _set_stem_stride(body: nn.Module, stride: int) -> None:
    for module in body.modules():
        if isinstance(module, nn.Conv2d):
            if stride < 1:
                raise UsageError(f"stem_stride {stride} must be 1 or more")
            module.stride = (stride, stride)
            return
    raise UsageError(f"timm/{type(body).__name__} has no convolution, so stem_stride {stride} cannot be set")
