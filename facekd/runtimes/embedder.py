"""Any session as an embedder: images in, raw embeddings out, whatever layout, type and batch the file has."""

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from facekd.common.errors import FacekdError, UsageError
from facekd.common.text import plain
from facekd.runtimes.base import Session
from facekd.runtimes.encoding import InputEncoding, Layout
from facekd.schemas.input_spec import InputSpec

if TYPE_CHECKING:
    import torch

MOST_PIXELS = 1 << 24
"""Of an image that a model takes: 4,096 x 4,096, facekd's choice. Two of them as float32 are 400 MB."""

log = logging.getLogger(__name__)


class Embedder(Protocol):
    """A face model as the evaluation sees it, whatever runs it.

    Attributes:
        input: what the model expects; the embedder normalises by it itself.
        embedding_width: length of an embedding.
    """

    @property
    def input(self) -> InputSpec: ...

    @property
    def embedding_width(self) -> int: ...

    def __call__(self, images: "torch.Tensor") -> "torch.Tensor":
        """uint8 RGB images [b, 3, h, w] -> raw float32 embeddings [b, e], on the CPU."""
        ...


class FileEmbedder:
    """A model in a file as an embedder; a file with a fixed batch is called in steps of it, the last one padded.

    Args:
        session: the model, opened.
        encoding: how images become its input.
        embedding_width: e; None runs the model to find it, and to see whether a batch declared free really is.

    Raises:
        UsageError: no output of the model can be an embedding, or its images are too large.
        FacekdError: the model cannot be run, or its embeddings are not numbers.
    """

    def __init__(self, session: Session, encoding: InputEncoding, *, embedding_width: int | None = None) -> None:
        self.session = session
        self.encoding = encoding
        height, width = encoding.spec.size
        if height * width > MOST_PIXELS:
            raise UsageError(
                f"{session.path} takes images of {width:,} x {height:,} pixels: facekd runs models of up to "
                f"{MOST_PIXELS:,} pixels an image, and face models take 112 x 112 or so"
            )
        if embedding_width is None and not session.output.is_embedding:
            outputs = [(tensor.name, list(tensor.shape)) for tensor in session.outputs]
            raise UsageError(f"{session.path} has outputs {outputs}: none is an embedding [b, e]")
        self.embedding_width = self._probe() if embedding_width is None else embedding_width

    @property
    def input(self) -> InputSpec:
        """What the model expects."""
        return self.encoding.spec

    @property
    def notes(self) -> tuple[str, ...]:
        """What to tell the person who gave the file: whatever is not as they may expect."""
        return self.encoding.notes

    @property
    def layout(self) -> Layout:
        """Of the model's input."""
        return self.encoding.layout

    @property
    def fixed_batch(self) -> int | None:
        """The only batch that the model takes, or None for any."""
        return self.encoding.batch

    def __call__(self, images: "torch.Tensor") -> "torch.Tensor":
        """uint8 RGB images [b, 3, h, w] -> raw float32 embeddings [b, e]."""
        import torch

        return torch.from_numpy(self.embed(images))

    def embed(self, images: "np.ndarray | torch.Tensor", *, batch: int | None = None) -> np.ndarray:
        """uint8 RGB images [n, 3, h, w] -> raw float32 embeddings [n, e].

        Args:
            images: any number.
            batch: of a step where the model takes any; default all at once.

        Raises:
            FacekdError: the model fails, or returns another number of rows than it was given.
        """
        step = self.fixed_batch or batch or len(images)
        parts = (images[start : start + step] for start in range(0, len(images), step))
        return np.concatenate([self._embed_step(self.encoding.encode(part)) for part in parts])

    def embed_normalised(self, values: np.ndarray) -> np.ndarray:
        """float32 [n, 3, h, w], normalised and ordered already, for a model that takes such -> as `embed`."""
        step = self.fixed_batch or len(values)
        parts = (values[start : start + step] for start in range(0, len(values), step))
        return np.concatenate([self._embed_step(self.encoding.arrange(part)) for part in parts])

    def _embed_step(self, x: np.ndarray) -> np.ndarray:
        """The model's input, at most one batch -> raw float32 embeddings [b, e]."""
        count = len(x)
        short = self.fixed_batch - count if self.fixed_batch else 0
        if short:
            x = np.concatenate([x, np.repeat(x[-1:], short, axis=0)])
        output = self.session.run_bounded(x)
        if len(output) != len(x):
            raise FacekdError(f"{self.session.path}: the model returned {output.shape} for a batch of {len(x)}")
        # A copy: some runtimes return their own memory.
        values = output.astype(np.float32)
        if self.session.output.quantisation is not None:
            scale, zero = self.session.output.quantisation
            values = (values - zero) * scale
        return values.reshape(len(x), -1)[:count]

    def _probe(self) -> int:
        """The embedding's width, from one run; a batch declared free that is not becomes 1."""
        height, width = self.input.size
        images = np.random.default_rng(0).integers(0, 256, (2, 3, height, width), dtype=np.uint8)
        one = self.embed(images[:1])
        if not np.isfinite(one).all():
            # Noise may be more than a half-precision network holds: grey never is.
            images = np.full_like(images, 128)
            one = self.embed(images[:1])
            if not np.isfinite(one).all():
                raise FacekdError(
                    f"{self.session.path} gives an embedding with NaN or infinity for a grey image: its weights are "
                    "damaged, or --mean and --std are not those it was made with"
                )
        if self.fixed_batch is None and not self._agrees(images, one[0]):
            name = plain(self.session.path)
            log.warning("%s declares a free batch but works only with batch 1: running one by one", name)
            self.encoding = replace(self.encoding, batch=1)
        return int(one.shape[1])

    def _agrees(self, images: np.ndarray, alone: np.ndarray) -> bool:
        """A view(b, -1) exported with the batch baked in declares a free batch and fails, or is wrong, above 1."""
        try:
            return np.allclose(self.embed(images)[0], alone, rtol=1e-2, atol=1e-2 * float(np.abs(alone).max()))
        except Exception as error:  # the runtime's own classes differ from version to version
            log.debug("batch 2 failed: %s", error)
            return False
