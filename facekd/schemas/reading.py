"""Reading a versioned JSON file of facekd: what is wrong with it is one line that says what to do."""

import json
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from facekd.common.errors import FacekdError
from facekd.common.validation import explain
from facekd.common.versions import __version__

Schema = TypeVar("Schema", bound=BaseModel)


def read_versioned(file: Path, schema: type[Schema], *, newest: int, what: str, advice: str) -> Schema:
    """A JSON file as the schema that it must fit.

    Args:
        file: is there.
        newest: the newest `schema_version` that can be read.
        what: the file is, for messages: "a bundle's card".
        advice: what to do about a damaged one: "restore the bundle from its source".

    Raises:
        FacekdError: it is not JSON, of a newer version, or a field of it is not valid.
    """
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:  # no text, no JSON, a huge number, a thousand brackets
        raise FacekdError(f"{file} is not {what}: it is not valid JSON ({error}); {advice}") from error
    found = data.get("schema_version") if isinstance(data, dict) else None
    if isinstance(found, int) and found > newest:
        raise FacekdError(
            f"{file} has schema version {found}, this facekd {__version__} reads up to {newest}; upgrade facekd"
        )
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        raise FacekdError(f"{file} is not {what}: {explain(error, schema)}; {advice}") from error
