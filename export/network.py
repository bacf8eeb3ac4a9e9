"""The network a target converts: the bundle's module, normalisation perhaps inside, PReLU in the wanted form."""

from dataclasses import dataclass

import torch
from torch import nn

from facekd.export.rewrite import count_layers, count_prelu, fold_batch_norms, merge_branches, rewrite_prelu
from facekd.schemas.input_spec import InputSpec

INPUT_NAME = "image"
OUTPUT_NAME = "embedding"


@dataclass(frozen=True, kw_only=True)
class Network:
    """A float32 module in eval mode with what its artefact must say about it.

    Attributes:
        module: normalised images [b, 3, h, w] -> raw embeddings [b, e], batch norms folded.
        input: its input spec.
        embedding_width: e.
        metadata: strings for the file itself: name, preprocessing, colour order, bundle hash, threshold.
        merged: of a re-parameterised network, its layers before and after, in words.
    """

    module: nn.Module
    input: InputSpec
    embedding_width: int
    metadata: dict[str, str]
    merged: str | None = None

    @classmethod
    def build(cls, model: nn.Module, *, spec: InputSpec, embedding_width: int, metadata: dict[str, str]) -> "Network":
        """Merges and folds a copy of `model`; the bundle's own module stays as it is, since it is the reference."""
        merged = merge_branches(model)
        before, after = count_layers(model), count_layers(merged)
        folded = fold_batch_norms(merged).requires_grad_(False)
        said = None
        if before[0] != after[0]:
            final = count_layers(folded)
            said = f"{before[0]} convolutions and {before[1]} batch norms to {final[0]} and {final[1]}"
        return cls(module=folded, input=spec, embedding_width=embedding_width, metadata=metadata, merged=said)

    def module_for(self, *, preprocess: str, prelu_form: str) -> nn.Module:
        """The module to convert: `prelu_form` applied, wrapped in the normalisation with preprocess "in"."""
        module = rewrite_prelu(self.module, prelu_form)
        return Normalised(module, self.input).eval() if preprocess == "in" else module

    def has_prelu(self) -> bool:
        """Whether a PReLU form matters at all."""
        return count_prelu(self.module) > 0

    def example(self, *, batch: int, preprocess: str) -> torch.Tensor:
        """Pixels [batch, 3, h, w] to trace with: uint8 with preprocess "in", else normalised float32."""
        generator = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, (batch, 3, *self.input.size), dtype=torch.uint8, generator=generator)
        return pixels if preprocess == "in" else self.input.normalise(pixels)


class Normalised(nn.Module):
    """RGB pixels, 0 to 255, of any dtype -> the wrapped module's embeddings; the same arithmetic as InputSpec."""

    def __init__(self, module: nn.Module, spec: InputSpec) -> None:
        super().__init__()
        self.module = module
        self.flip = spec.colour == "BGR"
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1))

    mean: torch.Tensor
    std: torch.Tensor

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = pixels.float()
        if self.flip:
            x = torch.cat([x[:, 2:3], x[:, 1:2], x[:, 0:1]], dim=1)
        output: torch.Tensor = self.module((x - self.mean) / self.std)
        return output
