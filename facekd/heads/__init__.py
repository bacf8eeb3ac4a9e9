"""Margin softmax heads by name: embeddings and labels in, scaled logits with the margin applied out."""

import inspect
from typing import Any

from facekd.common.errors import UsageError
from facekd.common.validation import shown
from facekd.heads.adaface import AdaFace
from facekd.heads.arcface import ArcFace
from facekd.heads.combined_margin import CombinedMargin
from facekd.heads.cosface import CosFace
from facekd.heads.margin import MarginHead

HEADS: dict[str, type[MarginHead]] = {
    "arcface": ArcFace,
    "cosface": CosFace,
    "combined": CombinedMargin,
    "adaface": AdaFace,
}

__all__ = ["HEADS", "AdaFace", "ArcFace", "CombinedMargin", "CosFace", "MarginHead", "create_head"]


def create_head(name: str, /, *, embedding_width: int, num_identities: int, **arguments: Any) -> MarginHead:
    """Builds the head `name` with fresh class centres.

    Args:
        name: arcface, cosface, combined or adaface.
        embedding_width: e.
        num_identities: n.
        arguments: the head's own (margin, scale, ...).

    Raises:
        UsageError: the name or an argument is unknown, or a value is out of range.
    """
    if name not in HEADS:
        raise UsageError(f"unknown head {shown(name)}; valid: {', '.join(HEADS)}")
    valid = [
        key for key in inspect.signature(HEADS[name]).parameters if key not in ("embedding_width", "num_identities")
    ]
    for key in arguments:
        if key not in valid:
            raise UsageError(f"head {shown(name)} takes no argument {shown(key)}; valid: {', '.join(valid)}")
    return HEADS[name](embedding_width=embedding_width, num_identities=num_identities, **arguments)
