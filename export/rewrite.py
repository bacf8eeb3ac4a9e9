"""Rewrites of the module before conversion: batch norms folded, PReLU in the form that a runtime executes best."""

import copy
import itertools
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from facekd.common.errors import UsageError
from facekd.common.validation import shown


class _PReLUForm(nn.Module):
    """PReLU of a map [b, c, ...] by other operators; slopes a are constants [c, 1, 1]."""

    def __init__(self, slope: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("slope", slope.detach().clone().view(-1, 1, 1))
        # Two forms hold only where a <= 1; a sign per channel, multiplied only if any is -1, extends them.
        self.register_buffer("sign", torch.where(self.slope > 1, -1.0, 1.0))
        self.steep = bool((self.sign < 0).any())

    slope: torch.Tensor
    sign: torch.Tensor


class LinRelu(_PReLUForm):
    """x + relu((a - 1) x): a multiplication that takes the ReLU with it, and an addition.

    For x < 0 and a <= 1 the ReLU passes (a - 1) x, for x > 0 nothing. Where a > 1 it is x - relu((1 - a) x).
    """

    def __init__(self, slope: torch.Tensor) -> None:
        super().__init__(slope)
        self.register_buffer("factor", self.sign * (self.slope - 1))

    factor: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        negative_part = torch.relu(self.factor * x)
        return x + (self.sign * negative_part if self.steep else negative_part)


class MaxSlope(_PReLUForm):
    """max(x, a x). Where a > 1 it is min(x, a x) = -max(-x, -a x)."""

    def __init__(self, slope: torch.Tensor) -> None:
        super().__init__(slope)
        self.register_buffer("signed_slope", self.sign * self.slope)

    signed_slope: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.steep:
            return torch.maximum(x, self.slope * x)
        return self.sign * torch.maximum(self.sign * x, self.signed_slope * x)


class ReluSub(_PReLUForm):
    """relu(x) - a relu(-x)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x) - self.slope * torch.relu(-x)


class ReluMix(_PReLUForm):
    """a x + (1 - a) relu(x)."""

    def __init__(self, slope: torch.Tensor) -> None:
        super().__init__(slope)
        self.register_buffer("rest", 1 - self.slope)

    rest: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.slope * x + self.rest * torch.relu(x)


class MaxMin(_PReLUForm):
    """max(x, 0) + a min(x, 0)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.clamp(x, min=0) + self.slope * torch.clamp(x, max=0)


# `native` leaves the operator to the converter. Timings of each per runtime: docs/export.md, made by
# benchmarks/studies/prelu_forms.py.
PRELU_FORMS: dict[str, Callable[[torch.Tensor], nn.Module] | None] = {
    "native": None,
    "lin_relu": LinRelu,
    "max_slope": MaxSlope,
    "relu_sub": ReluSub,
    "relu_mix": ReluMix,
    "max_min": MaxMin,
}


def rewrite_prelu(model: nn.Module, form: str) -> nn.Module:
    """A copy of `model` with every nn.PReLU in `form`; the function it computes is the same.

    Raises:
        UsageError: the form is not known.
    """
    if form not in PRELU_FORMS:
        raise UsageError(f"unknown PReLU form {shown(form)}; valid: {', '.join(PRELU_FORMS)}")
    model = copy.deepcopy(model)
    build = PRELU_FORMS[form]
    if build is None:
        return model
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.PReLU):
                setattr(parent, name, build(child.weight))
    return model.eval()


def count_prelu(model: nn.Module) -> int:
    """How many PReLU modules there are."""
    return sum(isinstance(module, nn.PReLU) for module in model.modules())


def merge_branches(model: nn.Module) -> nn.Module:
    """A copy in which the branches of re-parameterisable networks (MobileOne, RepViT, FastViT) are one convolution.

    By timm's own merge, of timm's modules alone: a module of somebody's own may mean something else by `fuse`.
    """
    from timm.models import reparameterize_model

    model = copy.deepcopy(model).eval()

    def merge(parent: nn.Module) -> None:
        for name, child in list(parent.named_children()):
            if type(child).__module__.startswith("timm."):
                setattr(parent, name, reparameterize_model(child, inplace=True))
            else:
                merge(child)

    merge(model)
    return model


def count_layers(model: nn.Module) -> tuple[int, int]:
    """(convolutions, batch norms) of a network."""
    modules = list(model.modules())
    return sum(isinstance(m, nn.Conv2d) for m in modules), sum(isinstance(m, nn.BatchNorm2d) for m in modules)


def fold_batch_norms(model: nn.Module) -> nn.Module:
    """A copy in which every batch norm that directly follows a convolution or linear layer is folded into it.

    Only neighbours inside an nn.Sequential are folded: there the order is the computation. Converters fold most of
    these themselves; coremltools leaves linear + BatchNorm1d as four operators, and a quantiser that meets an unfolded
    norm calibrates one tensor more.
    """
    model = copy.deepcopy(model).eval()
    for module in list(model.modules()):
        if not isinstance(module, nn.Sequential):
            continue
        children = list(module.named_children())
        for (name, layer), (norm_name, norm) in itertools.pairwise(children):
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(layer, norm))
                setattr(module, norm_name, nn.Identity())
            elif isinstance(layer, nn.Linear) and isinstance(norm, nn.BatchNorm1d):
                setattr(module, name, fuse_linear_bn_eval(layer, norm))
                setattr(module, norm_name, nn.Identity())
    return model
