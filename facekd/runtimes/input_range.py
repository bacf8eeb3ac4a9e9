"""Whether what we feed fits what a file's input can hold: a quantised input has a range, and a step."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from facekd.common.errors import UsageError
from facekd.runtimes.base import Tensor
from facekd.schemas.input_spec import InputSpec

HELD = 0.9
"""Share of the normalised pixels' range that an input must hold; a calibrated one leaves out a few per cent."""
FEWEST_STEPS = 32
"""A face in fewer steps than this is no longer the same face."""

_CONVENTIONS = ((0.0, 1.0), (128.0, 1.0), (0.0, 255.0))


def fitted_spec(path: Path, tensor: Tensor, spec: InputSpec) -> tuple[InputSpec, str | None]:
    """The spec by which pixels fit a quantised input, and what to say of it where it is not the one given.

    Where mean and std are the default's, those of the field are tried that fit: pixels 0 to 255, pixels less 128, and
    pixels divided by 255 (facekd's choice). Those that somebody gave are never replaced.

    Args:
        path: for messages.
        tensor: the input; one without a quantisation holds everything.
        spec: as given, or the default.

    Raises:
        UsageError: the input cannot hold pixels normalised so.
    """
    if tensor.quantisation is None or fits(tensor, spec.mean, spec.std):
        return spec, None
    low, high = held_range(tensor)
    takes = f"{path} holds values from {low:g} to {high:g} at its quantised input {tensor.name!r}"
    others = [(mean, std) for mean, std in _CONVENTIONS if fits(tensor, [mean] * 3, [std] * 3)]
    if not others or spec.model_fields_set & {"mean", "std"}:
        steps = min(255 / std for std in spec.std) / tensor.quantisation[0]
        darkest, lightest = _pixel_range(spec.mean, spec.std)
        advice = " or ".join(f"--mean {mean:g} --std {std:g}" for mean, std in others) or "those it was made with"
        raise UsageError(
            f"{takes}: mean {shown(spec.mean)} and std {shown(spec.std)} give {darkest:g} to {lightest:g} in "
            f"{steps:.0f} steps; give {advice}"
        )
    mean, std = others[0]
    words = {(0.0, 1.0): "as they are", (128.0, 1.0): "less 128", (0.0, 255.0): "divided by 255"}[others[0]]
    return (
        spec.model_copy(update={"mean": (mean,) * 3, "std": (std,) * 3}),
        f"{takes}: fed the pixels {words} (--mean {mean:g} --std {std:g})",
    )


def held_range(tensor: Tensor) -> tuple[float, float]:
    """The least and greatest real value of a quantised tensor."""
    assert tensor.quantisation is not None
    scale, zero = tensor.quantisation
    limits = np.iinfo(tensor.dtype)
    return (limits.min - zero) * scale, (limits.max - zero) * scale


def fits(tensor: Tensor, mean: Sequence[float], std: Sequence[float]) -> bool:
    """Whether a quantised input holds pixels normalised by mean and std, one value a channel, finely enough."""
    assert tensor.quantisation is not None
    low, high = held_range(tensor)
    for one_mean, one_std in zip(mean, std, strict=True):
        darkest, lightest = sorted((-one_mean / one_std, (255 - one_mean) / one_std))
        width = lightest - darkest
        if min(high, lightest) - max(low, darkest) < HELD * width or width < FEWEST_STEPS * tensor.quantisation[0]:
            return False
    return True


def _pixel_range(mean: Sequence[float], std: Sequence[float]) -> tuple[float, float]:
    ends = [(pixel - m) / s for m, s in zip(mean, std, strict=True) for pixel in (0, 255)]
    return min(ends), max(ends)


def shown(values: Sequence[float]) -> str:
    """One value a channel as an option takes it: one number where all are the same."""
    same = all(math.isclose(value, values[0]) for value in values)
    return f"{values[0]:g}" if same else ",".join(f"{value:g}" for value in values)
