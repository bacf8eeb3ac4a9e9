"""The parity gate: an artefact, run in its own runtime, against the bundle in float32; and where the two part."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from facekd.common.errors import FacekdError

# Batches a dynamic file must prove: 1, even, odd; a baked batch fails at the second (insightface #2406 and others).
PROVED_BATCHES = (1, 2, 7)
# |difference| of raw components, for float32; times the reference's scale where that exceeds 1.
MAX_ABS = 1e-3
# |difference| of L2-normalised components, for float16, whose rounding grows with the raw embedding's scale. For width
# 512, where such a component is 0.044 on average; those of a narrower embedding are larger, as 1 / sqrt(width).
MAX_ABS_UNIT_512 = 1e-3
# Smallest cosine to the bundle over all faces (facekd's choice; --min-cosine for the quantised ones).
MIN_COSINE = {"fp32": 0.99999, "fp16": 0.999, "w8": 0.98, "palette": 0.97, "int8": 0.9}
# Relative error of one layer's values below which the artefact still agrees with the bundle there.
_LAYER_TOLERANCE = {"fp32": 1e-3, "fp16": 0.05, "w8": 0.1, "palette": 0.2, "int8": 0.35}


class GateError(FacekdError):
    """The artefact is not the bundle: it was refused and nothing was kept."""


@dataclass(frozen=True)
class ParityFigures:
    """Figures over n faces; see facekd.schemas.manifest.Parity."""

    max_abs_difference: float
    scale: float
    max_abs_difference_unit: float
    cosine_min: float
    cosine_mean: float


def compare(reference: np.ndarray, embeddings: np.ndarray) -> ParityFigures:
    """Compares raw embeddings [n, e].

    Raises:
        GateError: shapes differ, or a value is not finite.
    """
    if reference.shape != embeddings.shape:
        raise GateError(f"embeddings are {list(embeddings.shape)}, the bundle's {list(reference.shape)}")
    if not np.isfinite(embeddings).all():
        raise GateError(f"{int((~np.isfinite(embeddings)).any(axis=1).sum())} embeddings hold NaN or infinity")
    a, b = _unit(reference), _unit(embeddings)
    cosines = np.sum(a * b, axis=1)
    return ParityFigures(
        max_abs_difference=float(np.abs(reference.astype(np.float64) - embeddings).max()),
        scale=float(np.sqrt(np.mean(np.square(reference.astype(np.float64))))),
        max_abs_difference_unit=float(np.abs(a - b).max()),
        cosine_min=float(cosines.min()),
        cosine_mean=float(cosines.mean()),
    )


def bounds_for(precision: str, *, scale: float, width: int, min_cosine: float | None) -> dict[str, float]:
    """The bounds of a precision by figure; `max_...` are upper, `cosine_...` lower bounds."""
    cosine = MIN_COSINE[precision] if min_cosine is None or precision in ("fp32", "fp16") else min_cosine
    bounds = {"cosine_min": cosine}
    if precision == "fp32":
        bounds["max_abs_difference"] = MAX_ABS * max(1.0, scale)
    if precision == "fp16":
        bounds["max_abs_difference_unit"] = MAX_ABS_UNIT_512 * (512 / width) ** 0.5
    return bounds


def violation(figures: ParityFigures, bounds: dict[str, float]) -> str | None:
    """The first bound that is broken, in words with figure and bound; None if all hold."""
    for name, bound in bounds.items():
        value = getattr(figures, name)
        broken = value < bound if name.startswith("cosine") else value > bound
        if broken:
            relation = "below" if name.startswith("cosine") else "above"
            return f"{name.replace('_', ' ')} {value:.6g} is {relation} the bound {bound:.6g}"
    return None


def first_divergence(
    module: nn.Module, x: torch.Tensor, exported: Iterable[tuple[str, np.ndarray]], *, precision: str
) -> str:
    """Where the artefact leaves the bundle, in words.

    Layers of the bundle are walked in the order they run; each is looked for among the artefact's values, whatever
    their names and layout, behind the last one that was found. Layers a converter fused away are simply not found; the
    first layer after the last agreement is where the values part.

    Args:
        module: the folded float32 module.
        x: one normalised input [1, 3, h, w].
        exported: the artefact's values for the same face, in order.
        precision: sets how far two values may lie apart and still agree.
    """
    layers = layer_outputs(module, x)
    values = [(name, value) for name, value in exported if value.dtype.kind == "f"]
    if not values:
        return "the runtime keeps its intermediate values to itself, so the layer is not known"
    tolerance = _LAYER_TOLERANCE[precision]
    last, position = -1, 0
    for index, (_, wanted) in enumerate(layers):
        for at in range(position, len(values)):
            if _agree(wanted, values[at][1], tolerance):
                last, position = index, at
                break
    if last == len(layers) - 1:
        return "every layer agrees on the face that was traced"
    first = layers[last + 1][0]
    if last < 0:
        return f"first diverging layer {first} (the first of all: look at colour order and normalisation)"
    return f"first diverging layer {first} (the last that agrees is {layers[last][0]})"


@torch.no_grad()
def layer_outputs(module: nn.Module, x: torch.Tensor) -> list[tuple[str, np.ndarray]]:
    """(name, output) of every leaf module that computes something, in the order they run, for the input `x`."""
    found: list[tuple[str, np.ndarray]] = []

    def record(name: str) -> object:
        def hook(_: nn.Module, __: tuple[object, ...], output: object) -> None:
            if isinstance(output, torch.Tensor):
                found.append((name, output.detach().float().numpy().copy()))

        return hook

    handles = [
        leaf.register_forward_hook(record(name))
        for name, leaf in module.named_modules()
        if not list(leaf.children()) and not isinstance(leaf, nn.Identity | nn.Flatten | nn.Dropout)
    ]
    try:
        module(x)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _agree(wanted: np.ndarray, value: np.ndarray, tolerance: float) -> bool:
    """Same values up to `tolerance` (relative L2), in the same layout or with channels last."""
    if value.ndim and wanted.ndim and value.shape[0] != wanted.shape[0] and value.ndim == wanted.ndim:
        value = value[: wanted.shape[0]]
    if value.size != wanted.size:
        return False
    candidates = [value]
    if value.ndim == 4:
        candidates.append(value.transpose(0, 3, 1, 2))
    norm = float(np.linalg.norm(wanted))
    for candidate in candidates:
        if candidate.shape == wanted.shape or candidate.ndim != wanted.ndim:
            error = float(np.linalg.norm(candidate.reshape(-1).astype(np.float64) - wanted.reshape(-1)))
            if error <= tolerance * max(norm, 1e-12):
                return True
    return False


def _unit(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    array: np.ndarray = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    return array
