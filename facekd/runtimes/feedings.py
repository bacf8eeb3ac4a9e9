"""The usual ways to feed a face model: both colour orders, the field's normalisations, and a file's other outputs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from facekd.runtimes.embedder import FileEmbedder
from facekd.runtimes.input_check import Feeding
from facekd.runtimes.input_range import fits, shown
from facekd.runtimes.outputs import embedding_outputs
from facekd.schemas.input_spec import InputSpec, StatedInput

BATCH = 32
_NORMALISATIONS = (
    ((127.5,) * 3, (127.5,) * 3),
    ((127.5,) * 3, (128.0,) * 3),
    ((0.0,) * 3, (255.0,) * 3),
    ((0.0,) * 3, (1.0,) * 3),
)
"""(mean, std) of pixels 0 to 255."""
_IMAGENET = {
    "RGB": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "BGR": ((103.53, 116.28, 123.675), (57.375, 57.12, 58.395)),
}

Colour = Literal["RGB", "BGR"]
Embed = Callable[[InputSpec, np.ndarray], np.ndarray]
"""(spec, uint8 RGB images [n, 3, h, w]) -> embeddings [n, e]."""


def ways_of(embedder: FileEmbedder) -> list[Feeding]:
    """How a model file is fed, then the other ways that its input can hold, and its other outputs."""
    session, encoding, tensor = embedder.session, embedder.encoding, embedder.session.input
    taken = session.output.name

    def by_spec(spec: InputSpec, images: np.ndarray) -> np.ndarray:
        if encoding.values == "rgb":  # the file orders the channels itself
            images = images[:, ::-1] if spec.colour != encoding.spec.colour else images
            return embedder.embed(np.ascontiguousarray(images), batch=BATCH)
        other = FileEmbedder(session, replace(encoding, spec=spec), embedding_width=embedder.embedding_width)
        return other.embed(images, batch=BATCH)

    def holds(spec: InputSpec) -> bool:
        if encoding.values != "normalised":  # pixels as they are: only their order can be another
            return (spec.mean[0], spec.std[0]) == (encoding.spec.mean[0], encoding.spec.std[0])
        return tensor.quantisation is None or fits(tensor, spec.mean, spec.std)

    def by_output(name: str) -> Callable[[np.ndarray], np.ndarray]:
        def embed(images: np.ndarray) -> np.ndarray:
            session.select(name)
            try:
                return embedder.embed(images, batch=BATCH)
            finally:
                session.select(taken)

        return embed

    ways = ways_by_spec(encoding.spec, by_spec, holds=holds)
    others = [
        tensor.name
        for tensor in embedding_outputs(session.outputs, session.runtime.ends(session.path))
        if tensor.name != taken
    ]
    return ways + [Feeding(f"output {name!r}", StatedInput(output=name), by_output(name)) for name in others]


def ways_by_spec(
    spec: InputSpec, embed: Embed, *, holds: Callable[[InputSpec], bool] = lambda spec: True
) -> list[Feeding]:
    """`spec`, then the other usual ones that the input `holds`, a way each."""

    def way(other: InputSpec) -> Feeding:
        return Feeding(in_words(other), difference(spec, other), lambda images: embed(other, images))

    return [way(spec), *(way(other) for other in other_specs(spec) if holds(other))]


def other_specs(spec: InputSpec) -> Iterator[InputSpec]:
    """The usual specs of the same size but for `spec`, and but for those that come to the same within 2 per cent."""
    seen = [spec]
    swapped: Colour = "BGR" if spec.colour == "RGB" else "RGB"
    orders: list[tuple[Colour, tuple[Any, Any]]] = [
        (spec.colour, (spec.mean, spec.std)),
        (swapped, (spec.mean[::-1], spec.std[::-1])),
    ]
    for colour, own in orders:
        for mean, std in (own, *_NORMALISATIONS, _IMAGENET[colour]):
            other = InputSpec(size=spec.size, colour=colour, mean=mean, std=std)
            if not any(_alike(other, one) for one in seen):
                seen.append(other)
                yield other


def difference(now: InputSpec, other: InputSpec) -> StatedInput:
    """What to state beside what is stated now, so that `other` results."""
    given = {
        name: getattr(other, name) for name in ("colour", "mean", "std") if getattr(other, name) != getattr(now, name)
    }
    return StatedInput.model_validate(given)


def in_words(spec: InputSpec) -> str:
    """ "BGR, (x - 127.5) / 127.5"."""
    mean, std = shown(spec.mean), shown(spec.std)
    if (mean, std) == ("0", "1"):
        return f"{spec.colour}, pixels 0 to 255"
    return f"{spec.colour}, x / {std}" if mean == "0" else f"{spec.colour}, (x - {mean}) / {std}"


def parts(images: np.ndarray) -> Sequence[np.ndarray]:
    """Batches of at most BATCH images."""
    return [np.ascontiguousarray(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]


def _alike(one: InputSpec, other: InputSpec) -> bool:
    return one.colour == other.colour and all(
        abs(a - b) < 2 and 0.98 < s / t < 1.02
        for a, b, s, t in zip(one.mean, other.mean, one.std, other.std, strict=True)
    )
