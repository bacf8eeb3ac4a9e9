"""Parameters and multiply-accumulates (MACs) of a model."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten


def count_parameters(model: nn.Module) -> int:
    """Number of parameters, frozen ones included; buffers (running statistics) are not parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: nn.Module, input_size: Sequence[int] = (3, 112, 112)) -> int:
    """Multiply-accumulates of one forward pass for one image.

    Counted are convolutions, linear layers and every matrix product, attention's two included; not counted are biases,
    norms, activations, pooling and softmax. Half of what profilers call FLOPs. The operators are seen where PyTorch
    dispatches them, so functional calls count as modules do; the forward really runs, in eval mode, on the model's own
    device (also "meta", where it costs nothing).

    Args:
        input_size: (channels, height, width) of the image.
    """
    parameter = next(model.parameters(), None)
    device = parameter.device if parameter is not None else torch.device("cpu")
    dtype = parameter.dtype if parameter is not None else torch.float32
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        # The math backend spells attention out as its two matrix products; fused kernels would be opaque.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), _MacCounter() as counter:
            model(torch.zeros(1, *input_size, device=device, dtype=dtype))
    finally:
        for module, training in modes.items():
            module.training = training
    return int(counter.macs)


class _MacCounter(TorchDispatchMode):
    """Adds up the MACs of every operator that is dispatched while it is active."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        packet = func.overloadpacket
        if packet in (aten.mm, aten.bmm):
            self.macs += result.numel() * args[0].shape[-1]
        elif packet in (aten.addmm, aten.baddbmm):
            self.macs += result.numel() * args[1].shape[-1]
        elif packet in (aten.convolution, aten._convolution):
            weight, transposed = args[1], args[6]
            # weight is [out, in / groups, ...]; a transposed convolution's is [in, out / groups, ...].
            positions = args[0].numel() if transposed else result.numel()
            self.macs += positions * weight[0].numel()
        return result
