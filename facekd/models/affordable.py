"""Whether a network that a recipe describes has a size that a machine can hold, found without allocating it."""

from typing import Any

import torch
from torch import nn

from facekd.common.errors import FacekdError, UsageError, one_line
from facekd.common.trust import names_code
from facekd.common.validation import shown
from facekd.models.registry import create_model

MAX_ARGUMENT = 100_000
"""A width or depth beyond it is a mistake; constructors make lists of such lengths before they make a layer."""
MAX_VALUES = 4 * 10**9
"""Parameters and buffers of a network: 16 GB in float32, before optimiser and gradients."""


def create_affordable(name: str, /, **arguments: Any) -> nn.Module:
    """`create_model` for arguments that come from a file: first on the meta device, where nothing is allocated.

    Raises:
        UsageError: as `create_model`, or the network would be too large, or its constructor fails at the arguments.
    """
    if arguments and not names_code(name):  # a trusted function is not asked to build on the meta device too
        _check_arguments(name, arguments)
        try:
            with torch.device("meta"):
                skeleton = create_model(name, **arguments)
        except FacekdError:
            raise
        except Exception as error:  # a stranger's arguments may break a constructor at any line
            reason = one_line(f"{type(error).__name__}: {error}", limit=200)
            raise UsageError(f"model.arguments {shown(arguments)} do not build {name} ({reason})") from error
        size = sum(value.numel() for values in (skeleton.parameters(), skeleton.buffers()) for value in values)
        if size > MAX_VALUES:
            raise UsageError(
                f"model.arguments {shown(arguments)} make a {name} of {size:,} values, more than the {MAX_VALUES:,} "
                "that are allowed: lower them"
            )
    return create_model(name, **arguments)


def _check_arguments(name: str, value: Any) -> None:
    if isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            _check_arguments(name, part)
    elif isinstance(value, int | float) and not abs(value) <= MAX_ARGUMENT:
        raise UsageError(f"model.arguments hold {shown(value)}: numbers of {name} are at most {MAX_ARGUMENT:,}")
