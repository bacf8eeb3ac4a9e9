"""From images to embeddings: any model behind one call, in batches, with bounded memory."""

import dataclasses
import functools
import hashlib
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from torch import nn

from facekd.errors import FacekdError, UsageError
from facekd.evaluation.verification import FARS, VerificationResult, verify_pairs
from facekd.input_spec import InputSpec


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

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 RGB images [b, 3, h, w] -> raw float32 embeddings [b, e], on the CPU."""
        ...


class ImagePairs(Protocol):
    """A verification set: `image(2i)` and `image(2i + 1)` are pair i, as uint8 RGB [h, w, 3]."""

    name: str
    images: Sequence[bytes | np.ndarray]
    issame: np.ndarray

    def image(self, i: int) -> np.ndarray: ...


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
            return self.model(self.input.normalise(images.to(self.device))).float().cpu()


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


def embed_images(
    embedder: Embedder,
    images: Sequence[np.ndarray],
    *,
    flip: bool = True,
    batch_size: int = 128,
    progress: bool = False,
    description: str = "embed",
) -> np.ndarray:
    """Raw embeddings of aligned images, float32 [n, e]; with `flip`, f(x) + f(flip(x)) as the protocol has it.

    Args:
        embedder: the model.
        images: uint8 RGB [h, w, 3] of the embedder's input size, read one by one as they are needed: a lazy sequence
            keeps memory at two batches, since the next batch is read in the background while one is computed.
        flip: add the embedding of the mirrored image.
        batch_size: images a batch; with `flip` their mirrored copies follow in a second call.
        progress: show a bar on stderr.
        description: the bar's text.

    Raises:
        FacekdError: an image that is not uint8 RGB of the input's size, or an embedding of another width than stated.
    """
    if batch_size < 1:
        raise UsageError(f"batch size {batch_size}: give at least 1")
    embeddings = np.empty((len(images), embedder.embedding_width), dtype=np.float32)
    starts = range(0, len(images), batch_size)
    read = functools.partial(_read_batch, images, batch_size, embedder.input.size)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with (
        Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), disable=not progress) as bar,
        ThreadPoolExecutor(1) as reader,
    ):
        task = bar.add_task(description, total=len(images))
        pending = reader.submit(read, 0) if starts else None
        for start in starts:
            assert pending is not None
            batch = pending.result()
            if start + batch_size < len(images):
                pending = reader.submit(read, start + batch_size)
            output = embedder(batch)
            if flip:
                output = output + embedder(batch.flip(3))
            if output.shape != (len(batch), embedder.embedding_width):
                raise FacekdError(
                    f"the model returned shape {tuple(output.shape)} for {len(batch)} images: "
                    f"expected ({len(batch)}, {embedder.embedding_width})"
                )
            embeddings[start : start + len(batch)] = output.numpy()
            bar.advance(task, len(batch))
    return embeddings


def evaluate_verification(
    embedder: Embedder | nn.Module,
    verification_set: ImagePairs,
    *,
    batch_size: int = 128,
    progress: bool = False,
    folds: int = 10,
    fars: Sequence[float] = FARS,
) -> VerificationResult:
    """Embeds a verification set and judges it by the 10-fold protocol.

    Images that occur in several pairs (36 % of LFW's 12,000) are embedded once: the same bytes give the same
    embedding, so this changes the time and nothing else.

    Args:
        embedder: the model; a bare facekd network is taken with the default input spec.
        verification_set: pair i is images 2i and 2i + 1.
        batch_size: images a batch.
        progress: show a bar on stderr.
        folds: see verify_pairs.
        fars: see verify_pairs.
    """
    if isinstance(embedder, nn.Module):
        embedder = ModelEmbedder(embedder, InputSpec())
    start = time.perf_counter()
    distinct = DistinctImages(verification_set)
    embeddings = embed_images(
        embedder, distinct, batch_size=batch_size, progress=progress, description=verification_set.name
    )
    result = verify_pairs(
        embeddings[distinct.occurrence],
        verification_set.issame,
        folds=folds,
        fars=fars,
        name=verification_set.name,
    )
    return dataclasses.replace(result, seconds=time.perf_counter() - start, images_embedded=len(distinct))


class DistinctImages(Sequence[np.ndarray]):
    """The distinct images of a verification set, decoded when asked for.

    Attributes:
        occurrence: int64 [2n], which distinct image each image of the set is.
    """

    def __init__(self, verification_set: ImagePairs) -> None:
        self._set = verification_set
        first: dict[bytes, int] = {}  # digest -> distinct image; a digest, so that no array is held twice
        self._index: list[int] = []
        occurrence = []
        for i, image in enumerate(verification_set.images):
            content = hashlib.sha256(image if isinstance(image, bytes) else image.tobytes()).digest()
            if content not in first:
                first[content] = len(self._index)
                self._index.append(i)
            occurrence.append(first[content])
        self.occurrence = np.array(occurrence, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, i: int) -> np.ndarray:  # type: ignore[override]
        return self._set.image(self._index[i])


def _read_batch(images: Sequence[np.ndarray], batch_size: int, size: tuple[int, int], start: int) -> torch.Tensor:
    """Images start .. start + batch_size as uint8 [b, 3, h, w]; each is checked against the model's input size."""
    batch = []
    for i in range(start, min(start + batch_size, len(images))):
        image = np.asarray(images[i])
        if image.shape != (*size, 3) or image.dtype != np.uint8:
            raise FacekdError(
                f"image {i} is {image.dtype} of shape {image.shape}: the model takes aligned uint8 RGB of "
                f"{(*size, 3)}; align it first (facekd data align, or --detector)"
            )
        batch.append(torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))))
    return torch.stack(batch)
