"""Whether a file normalises its input itself, so that normalised pixels would be normalised twice."""

from pathlib import Path

from facekd.common.errors import UsageError
from facekd.runtimes.graph_ends import GraphEnds
from facekd.runtimes.input_range import shown
from facekd.schemas.input_spec import InputSpec

PIXEL_SIZED = 16.0
"""A std above this is of pixels 0 to 255: that of values in [-1, 1] or [0, 1] is about 1, of pixels about 60 to 255."""


def check_unit(path: Path, spec: InputSpec) -> None:
    """Refuses a mean and std of pixels between 0 and 1: ours are 0 to 255.

    Raises:
        UsageError: these are such.
    """
    if max(map(abs, spec.std)) <= 1 and 0 < max(map(abs, spec.mean)) <= 1:
        means, stds = ([255 * value for value in values] for values in (spec.mean, spec.std))
        raise UsageError(
            f"{path}: mean {shown(spec.mean)} and std {shown(spec.std)} are for pixels of 0 to 1, here pixels are 0 to "
            f"255: give --mean {shown(means)} --std {shown(stds)}"
        )


def spec_beside(path: Path, ends: GraphEnds, spec: InputSpec | None) -> tuple[InputSpec | None, str | None]:
    """(the spec to feed by, what to say) for a file that may normalise itself.

    Where mean and std are the default's, a file that normalises pixels is fed pixels; those that somebody gave are
    kept, and what looks wrong is said.
    """
    if ends.normalises is None:
        return spec, None
    mean, std = ends.normalises
    inside = f"{path} computes (x - {shown(mean)}) / {shown(std)} of its input itself"
    given = spec is not None and bool(spec.model_fields_set & {"mean", "std"})
    known = spec or InputSpec()
    for_pixels = min(std) >= PIXEL_SIZED
    fed_pixels = max(known.std) < 2
    if for_pixels and not given:
        as_they_are = known.model_copy(update={"mean": (0.0,) * 3, "std": (1.0,) * 3})
        return as_they_are, f"{inside}: fed the pixels 0 to 255 as they are (--mean 0 --std 1)"
    if for_pixels and not fed_pixels:
        return spec, (
            f"{inside}, which is meant for pixels 0 to 255, and is fed pixels normalised by mean {shown(known.mean)} "
            f"and std {shown(known.std)}: normalised twice? --mean 0 --std 1 feeds pixels"
        )
    if not for_pixels and fed_pixels:
        return spec, f"{inside}, which cannot be meant for pixels 0 to 255: leave out --mean {shown(known.mean)}?"
    return spec, None
