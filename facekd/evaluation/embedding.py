"""From images to embeddings: any model behind one call, in batches, with bounded memory."""

import dataclasses
import functools
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from torch import nn

from facekd.common.errors import FacekdError, UsageError
from facekd.evaluation.verification import FARS, VerificationResult, verify_pairs
from facekd.schemas.input_spec import InputSpec

_CPU_PIECE = 16  # images


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
    """What is needed of a verification set: pair i is images 2i and 2i + 1 (facekd.data's VerificationSet is one).

    Attributes:
        name: for reports.
        issame: bool [n].
        fold_sizes: pairs in each published fold, in order; None where the set publishes none.
    """

    name: str
    issame: np.ndarray
    fold_sizes: list[int] | None

    @property
    def num_images(self) -> int: ...

    def key(self, i: int) -> str: ...

    def encoded(self, i: int) -> bytes | np.ndarray: ...

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
            x = self.input.normalise(images.to(self.device))
            if self.device.type == "cpu":
                # NHWC in pieces that stay in the cache: 1.2 to 3 times as fast for a CNN, alike for a Transformer.
                x = x.contiguous(memory_format=torch.channels_last)
                return torch.cat([self.model(piece).float() for piece in x.split(_CPU_PIECE)])
            return self.model(x).float().cpu()


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
    return dataclasses.replace(result, seconds=time.perf_counter() - start, images_embedded=len(distinct))


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


def open_embedder(
    path: str | Path,
    *,
    input_spec: InputSpec | None = None,
    layout: Literal["NCHW", "NHWC"] | None = None,
    threads: int | None = None,
) -> Embedder:
    """Opens whatever holds a face model.

    Args:
        path: a bundle folder (card.json), an exported artefact folder (manifest.json), or a foreign .onnx or .tflite.
        input_spec: of a foreign file only; a bundle and an artefact state their own. Default RGB, (x - 127.5) / 127.5.
        layout: of a foreign file only, where its input's shape does not tell.
        threads: CPU threads; default: all.

    Raises:
        UsageError: nothing there that holds a model, or a spec given for a model that states its own.
    """
    from facekd.evaluation.runners import RUNNERS, open_artefact

    path = Path(path)
    if not path.exists():
        raise UsageError(f"model {path} does not exist: give a bundle or artefact folder, or an .onnx or .tflite file")
    if path.is_file() and path.suffix.lower() in RUNNERS:
        return RUNNERS[path.suffix.lower()](path, input_spec=input_spec, layout=layout, threads=threads)
    for marker in ("card.json", "manifest.json"):
        if not (path / marker).is_file():
            continue
        if input_spec is not None or layout is not None:
            raise UsageError(f"{path} states its own input spec in {marker}: leave mean, std, colour, layout out")
        return _open_bundle(path, threads) if marker == "card.json" else open_artefact(path, threads=threads)
    kind = "a folder without card.json or manifest.json" if path.is_dir() else f"a {path.suffix or 'nameless'} file"
    raise UsageError(f"model {path} is {kind}: give a bundle or artefact folder, or an .onnx or .tflite file")


def _open_bundle(path: Path, threads: int | None) -> Embedder:
    from facekd.models.bundle import load_bundle

    if threads is not None:
        torch.set_num_threads(threads)
    bundle = load_bundle(path)
    return ModelEmbedder(bundle.model.to("cuda" if torch.cuda.is_available() else "cpu"), bundle.card.input)
