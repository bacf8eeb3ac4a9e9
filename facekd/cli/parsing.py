"""Reads options that are lists, durations or the input of a foreign file; errors name the option and valid values."""

import os
import re
from typing import TYPE_CHECKING, Literal

from facekd.common.errors import UsageError

if TYPE_CHECKING:
    from facekd.schemas.input_spec import InputSpec, StatedInput


def split_list(text: str | None) -> list[str]:
    """The parts of a comma-separated text, without the empty ones."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def parse_integers(text: str) -> list[int]:
    """The numbers of a comma-separated text; none if one of them is no whole number."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        return []


def parse_counts(option: str, text: str) -> list[int]:
    """Whole numbers from 1: "1,2" -> [1, 2]."""
    numbers = parse_integers(text)
    if not numbers or min(numbers) < 1:
        raise UsageError(f"{option} {text}: give whole numbers from 1, comma-separated, such as 1,2")
    return numbers


def parse_cores(text: str | None) -> list[int] | None:
    """This machine's cores that --pin names; None where it is not given."""
    if text is None:
        return None
    there = os.cpu_count() or 1
    cores = parse_integers(text)
    if not cores or min(cores) < 0 or max(cores) >= there:
        raise UsageError(f"--pin {text}: give cores from 0 to {there - 1}, comma-separated")
    return cores


def parse_serials(text: str) -> list[str]:
    """The phones of --device: "adb:A,adb:B" -> ["A", "B"]."""
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"adb:\S+", part) for part in parts):
        raise UsageError(
            f"--device {text}: valid are host and adb:SERIAL (comma-separated); `adb devices` lists serials"
        )
    return [part.removeprefix("adb:") for part in parts]


def parse_duration(option: str, text: str) -> float:
    """Seconds of "500ms", "10s", "2m" or a bare number of seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m)?", text.strip())
    if found is None:
        raise UsageError(f"{option} {text}: give a time such as 500ms, 10s or 2m")
    return float(found[1]) * {"ms": 1e-3, "s": 1.0, "m": 60.0, None: 1.0}[found[2]]


def parse_folds(text: str) -> list[int] | None:
    """ "all" -> None, "1,2" -> [1, 2]."""
    if text == "all":
        return None
    if numbers := parse_integers(text):
        return numbers
    raise UsageError(f"--folds {text}: give all, or numbers from 1 to 10 such as 1,2")


def parse_stated_input(**given: str | None) -> "StatedInput":
    """The options --colour, --mean, --std, --layout and --output, by these names, as what is stated of a model file."""
    from pydantic import ValidationError

    from facekd.common.validation import explain
    from facekd.schemas.input_spec import StatedInput

    try:
        return StatedInput.model_validate({name: text for name, text in given.items() if text is not None})
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        raise UsageError(f"--{name} {given[name]}: {explain(error).rpartition(': ')[2]}") from None


def parse_input_spec(mean: str | None, std: str | None, colour: str | None) -> "InputSpec | None":
    """The options of a foreign file as its input spec; None if none was given."""
    return parse_stated_input(mean=mean, std=std, colour=colour).spec


def parse_layout(text: str | None) -> Literal["NCHW", "NHWC"] | None:
    """NCHW or NHWC in any case."""
    return parse_stated_input(layout=text).layout
