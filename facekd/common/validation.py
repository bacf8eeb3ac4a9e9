"""What pydantic says of a file, as one line that names the field, what was given and what is valid."""

import difflib
import json
from collections.abc import Iterator
from typing import Any, Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

SHOWN_CHARACTERS = 80
"""Of a value in a message: a value may be as long as the file that it stands in."""


LARGEST_INTEGER = 2**63 - 1
LARGEST_NUMBER = 1e30
"""Of a field with a fraction: float32, in which all is computed, ends at 3.4e38."""


class StrictSchema(BaseModel):
    """Base of what is read from files: a field that is not known is an error, and so is a value that is not valid.

    No number of any field, nor of what a field of free form holds, is beyond what tensors can hold: whole ones fit into
    64 bits, others are finite and at most LARGEST_NUMBER. Fields that decide how much is started or allocated have
    bounds of their own.
    """

    model_config = ConfigDict(extra="forbid")

    def as_json(self, *, indent: int | None = None) -> str:
        r"""The content as JSON for a file; the bytes of a name that is not UTF-8 stand there as \\udcd5."""
        try:
            return self.model_dump_json(indent=indent)
        except ValueError:  # pydantic writes UTF-8 only
            return json.dumps(self.model_dump(mode="json"), indent=indent)

    @model_validator(mode="after")
    def _numbers_are_bounded(self) -> Self:
        for name, value in vars(self).items():
            check_numbers(name, value)
        return self


def check_numbers(name: str, value: Any) -> None:
    """Raises ValueError where a number in a field of free form, however deep, is beyond what tensors can hold."""
    if isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            check_numbers(name, part)
    elif isinstance(value, int) and not abs(value) <= LARGEST_INTEGER:
        raise ValueError(f"{name} = {shown(value)}: whole numbers are of at most 64 bits")
    elif isinstance(value, float) and not abs(value) <= LARGEST_NUMBER:
        raise ValueError(f"{name} = {value}: numbers are finite and at most {LARGEST_NUMBER:g}")


def explain(error: ValidationError, schema: type[BaseModel] | None = None) -> str:
    """The first mistake in words, and how many more there are: "field = value: what is valid".

    Args:
        schema: what was being read; an unknown field is then followed by the nearest and all valid ones.
    """
    first = error.errors()[0]
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    place = [part for part in first["loc"] if part not in ("bool", "literal['auto']", "literal['dynamic']")]
    field = ".".join(map(_short, place))
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return _unknown(field, place, schema) + more
    if first["type"] == "missing":
        return f"field {shown(field)} is missing{more}"
    if first["type"] == "value_error":
        return f"{field + ': ' if field else ''}{message}{more}"
    if not field:
        return f"{shown(first['input'])}: {message[:1].lower()}{message[1:]}{more}"
    return f"{field} = {shown(first['input'])}: {message[:1].lower()}{message[1:]}{more}"


def shown(value: Any) -> str:
    """A value for a message: its repr, of bounded length, whatever it holds."""
    if isinstance(value, dict | list | tuple | set) and len(value) > 8:
        return f"{type(value).__name__} of {len(value)}"
    if isinstance(value, str | bytes):
        value = value[: SHOWN_CHARACTERS + 1]
    elif isinstance(value, dict | list | tuple | set):
        # A YAML alias makes a value of a few entries as long as one likes: never its whole repr.
        return f"{type(value).__name__} of {len(value)}" if _is_deep(value) else repr(value)[:SHOWN_CHARACTERS]
    elif isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 256:
        return f"a number of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 3]}..."


def _short(name: int | str) -> str:
    return str(name)[:SHOWN_CHARACTERS]


def _is_deep(value: Any) -> bool:
    entries = list(value.values()) if isinstance(value, dict) else list(value)
    return any(isinstance(entry, dict | list | tuple | set) and len(entry) > 0 for entry in entries)


def _unknown(field: str, place: list[int | str], schema: type[BaseModel] | None) -> str:
    if schema is None:
        return f"unknown field {shown(field)}"
    valid = sorted(_section(schema, place).model_fields)
    close = difflib.get_close_matches(_short(place[-1]), valid, n=1)
    hint = f", did you mean {close[0]!r}? Valid" if close else "; valid"
    return f"unknown field {shown(field)}{hint} here: {', '.join(valid)}"


def _section(schema: type[BaseModel], place: list[int | str]) -> type[BaseModel]:
    """The part of a schema that holds the field at `place`."""
    for part in place[:-1]:
        field = schema.model_fields.get(str(part))
        found = (
            next((kind for kind in _kinds(field.annotation) if issubclass(kind, BaseModel)), None) if field else None
        )
        schema = found or schema
    return schema


def _kinds(annotation: Any) -> Iterator[type]:
    if isinstance(annotation, type):
        yield annotation
    for inner in get_args(annotation):
        yield from _kinds(inner)
