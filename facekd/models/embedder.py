"""A torch model in memory as an embedder, on any device."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from facekd.schemas.input_spec import InputSpec

_CPU_PIECE = 16  # images


class ModelEmbedder:
    """A torch model as an embedder: during a call it is in eval mode and without gradients, afterwards as it was.

    Every submodule's own mode comes back, so a model of which a part is kept in eval on purpose may be evaluated in
    the middle of its training.

    Args:
        model: normalised float images [b, 3, h, w] -> raw embeddings [b, e]; has `embedding_width`.
        input_spec: the model's normalisation.
        device: where the batches go; default: where the model's first parameter is.
        amp_dtype: autocast to this type, or None for float32.
    """

    def __init__(
        self,
        model: nn.Module,
        input_spec: InputSpec,
        *,
        device: torch.device | str | None = None,
        amp_dtype: torch.dtype | None = None,
    ) -> None:
        self.model = model
        self.input = input_spec
        first = next(model.parameters(), torch.empty(0))
        self.device = torch.device(first.device if device is None else device)
        self.amp_dtype = amp_dtype

    @property
    def embedding_width(self) -> int:
        """Length of an embedding."""
        return int(self.model.embedding_width)  # type: ignore[arg-type]

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 RGB images [b, 3, h, w] -> raw float32 embeddings [b, e], on the CPU."""
        # no_grad, not inference_mode: a buffer that the model caches during the call must stay usable in training.
        with (
            evaluating(self.model),
            torch.no_grad(),
            torch.autocast(self.device.type, dtype=self.amp_dtype, enabled=self.amp_dtype is not None),
        ):
            x = self.input.normalise(images.to(self.device))
            if self.device.type == "cpu":
                # NHWC in pieces that stay in the cache: 1.2 to 3 times as fast for a CNN, alike for a Transformer.
                x = x.contiguous(memory_format=torch.channels_last)
                return torch.cat([self.model(piece).float() for piece in x.split(_CPU_PIECE)])
            output: torch.Tensor = self.model(x).float().cpu()
            return output


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Puts the model into eval mode, and every submodule back into its own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
