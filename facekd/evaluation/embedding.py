"""From images to embeddings: any model behind one call, in batches, with bounded memory."""

import dataclasses
import functools
import hashlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
from torch import nn

from facekd.common.errors import FacekdError, UsageError
from facekd.common.progress import progress_bar
from facekd.evaluation.verification import FARS, VerificationResult, verify_pairs
from facekd.models.embedder import ModelEmbedder
from facekd.runtimes.embedder import Embedder
from facekd.schemas.input_spec import InputSpec


class ImagePairs(Protocol):
    """What is needed of a verification set: pair i is images 2i and 2i + 1 (facekd.data's VerificationSet is one).

    Attributes:
        name: for reports.
        issame: bool [n].
        fold_sizes: pairs in each published fold, in order; None where the set publishes none.
        notes: what was done to the images that were read.
    """

    name: str
    issame: np.ndarray
    fold_sizes: list[int] | None

    @property
    def notes(self) -> list[str]: ...

    @property
    def num_images(self) -> int: ...

    def key(self, i: int) -> str: ...

    def encoded(self, i: int) -> bytes | np.ndarray: ...

    def image(self, i: int) -> np.ndarray: ...


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
    with progress_bar(description, len(images), shown=progress) as bar, ThreadPoolExecutor(1) as reader:
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
            bar.advance(len(batch))
    return embeddings


def evaluate_verification(
    embedder: Embedder | nn.Module,
    verification_set: ImagePairs,
    *,
    align: Callable[["DistinctImages"], Sequence[np.ndarray]] | None = None,
    batch_size: int = 128,
    progress: bool = False,
    folds: int | Sequence[int] | None = None,
    fars: Sequence[float] = FARS,
) -> VerificationResult:
    """Embeds a verification set and judges it by the 10-fold protocol.

    Images that occur in several pairs (36 % of LFW's 12,000) are embedded once: the same bytes give the same
    embedding, so this changes the time and nothing else.

    Args:
        embedder: the model; a bare facekd network is taken with the default input spec.
        verification_set: pair i is images 2i and 2i + 1.
        align: photographs -> as many aligned crops; None where the set's images are aligned.
        batch_size: images a batch.
        progress: show a bar on stderr.
        folds: see verify_pairs; default: those that the set publishes, else ten.
        fars: see verify_pairs.
    """
    if isinstance(embedder, nn.Module):
        embedder = ModelEmbedder(embedder, InputSpec())
    start = time.perf_counter()
    distinct = DistinctImages(verification_set)
    images = distinct if align is None else align(distinct)
    embeddings = embed_images(
        embedder, images, batch_size=batch_size, progress=progress, description=verification_set.name
    )
    result = verify_pairs(
        embeddings[distinct.occurrence],
        verification_set.issame,
        folds=folds or verification_set.fold_sizes or 10,
        fars=fars,
        name=verification_set.name,
    )
    return dataclasses.replace(
        result,
        seconds=time.perf_counter() - start,
        images_embedded=len(distinct),
        set_notes=tuple(verification_set.notes),
    )


class DistinctImages(Sequence[np.ndarray]):
    """The distinct images of a verification set, decoded when asked for.

    Attributes:
        occurrence: int64 [2n], which distinct image each image of the set is.
    """

    def __init__(self, pairs: ImagePairs) -> None:
        self._pairs = pairs
        first: dict[bytes, int] = {}  # digest -> distinct image; a digest, so that no array is held twice
        self._index: list[int] = []
        self.occurrence = np.empty(pairs.num_images, dtype=np.int64)
        for i in range(pairs.num_images):
            content = pairs.encoded(i)
            shape = b"" if isinstance(content, bytes) else str(content.shape).encode()
            digest = hashlib.sha256(shape + (content if isinstance(content, bytes) else content.tobytes())).digest()
            self.occurrence[i] = first.setdefault(digest, len(self._index))
            if self.occurrence[i] == len(self._index):
                self._index.append(i)

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, i: int) -> np.ndarray:  # type: ignore[override]
        return self._pairs.image(self._index[i])

    def key(self, i: int) -> str:
        """Name of distinct image i: its first one in the set."""
        return self._pairs.key(self._index[i])


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
