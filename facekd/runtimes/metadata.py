"""What a model file's metadata says of its input, and how that goes together with what a person says of it."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from facekd.runtimes.input_range import shown
from facekd.schemas.input_spec import InputSpec, StatedInput


def metadata_input(entries: Mapping[str, str]) -> StatedInput:
    """From the entries that `facekd export` writes into a file (facekd.colour, facekd.mean, ...); nothing of others.

    A file that normalises itself orders the channels too: it takes RGB pixels.
    """
    if entries.get("facekd.preprocess") == "in":
        return StatedInput(colour="RGB")
    given = {name: entries.get(f"facekd.{name}") for name in ("colour", "mean", "std")}
    try:
        return StatedInput.model_validate(given)
    except ValidationError:  # not as facekd writes it
        return StatedInput()


def with_metadata(path: Path, spec: InputSpec | None, stated: StatedInput) -> tuple[InputSpec | None, tuple[str, ...]]:
    """(the spec to feed by, what to say): what a person gave, and for the rest what the file states of itself."""
    own = {name: value for name, value in stated.stated.items() if name in ("colour", "mean", "std")}
    given = {} if spec is None else {name: getattr(spec, name) for name in spec.model_fields_set}
    notes = tuple(
        f"{path} states {name} {_shown(value)} in its metadata; --{name} {_shown(given[name])} is taken"
        for name, value in own.items()
        if name in given and given[name] != value
    )
    if not own:
        return spec, notes
    both = InputSpec.model_validate({**own, **given})
    if both == InputSpec() and spec is None:
        return None, notes
    unsaid = [
        f"{name} {_shown(own[name])}" for name in own if name not in given and getattr(InputSpec(), name) != own[name]
    ]
    if unsaid:
        notes = (*notes, f"{path} states its input in its metadata: {', '.join(unsaid)}")
    return both, notes


def _shown(value: object) -> str:
    return shown(value) if isinstance(value, tuple) else str(value)
