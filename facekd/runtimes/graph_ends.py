"""What a model file computes at its two ends, as far as its graph tells."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from facekd.schemas.input_spec import StatedInput


@dataclass(frozen=True, kw_only=True)
class GraphEnds:
    """What a file computes at its ends; empty where it cannot be told.

    Attributes:
        operators: of an output, by name: the operator that computes it.
        before: of an output, by name: the other outputs that it is computed from.
        normalises: (mean, std), one value a channel, of (x - mean) / std, where the graph begins with that.
        stated: of the input, by the file's own metadata.
    """

    operators: Mapping[str, str] = field(default_factory=dict)
    before: Mapping[str, frozenset[str]] = field(default_factory=dict)
    normalises: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    stated: StatedInput = field(default_factory=StatedInput)
