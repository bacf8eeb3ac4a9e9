"""`--set a.b=c`: one field of a recipe changed; a method in `distillation` is addressed by its name."""

from typing import Any

from facekd.common.errors import UsageError
from facekd.common.validation import shown
from facekd.common.yaml_text import InvalidYaml, parse_yaml


def apply_override(content: dict[str, Any], override: str) -> None:
    """Applies one `a.b=value` to the plain content of a recipe.

    Raises:
        UsageError: it is not of that form, its value is not YAML, or it asks a value for a field.
    """
    dotted, equals, text = override.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise UsageError(f"--set {shown(override)}: expected field.subfield=value, for example training.epochs=5")
    try:
        value = parse_yaml(text)
    except InvalidYaml as error:
        raise UsageError(f"--set {shown(override)}: the value is not YAML: {error}") from error
    place: Any = content
    for position, key in enumerate(keys):
        last = position == len(keys) - 1
        if isinstance(place, list):
            place = _list_entry(place, key, override)
            if last:
                place.clear()
                place.update({key: value})
            else:
                place[key] = place.get(key) or {}
                place = place[key]
        elif isinstance(place, dict):
            if last:
                place[key] = value
            else:
                if place.get(key) is None:
                    place[key] = [] if key == "distillation" and position == 0 else {}
                place = place[key]
        else:
            raise UsageError(
                f"--set {shown(override)}: {'.'.join(keys[:position])} is a value, it has no field {shown(key)}"
            )


def _list_entry(entries: list[Any], name: str, override: str) -> dict[str, Any]:
    """The entry of a distillation list that names method `name`, added when missing."""
    added: dict[str, Any] = {name: {}}
    for index, entry in enumerate(entries):
        if entry == name:
            entries[index] = added
            return added
        if isinstance(entry, dict) and name in entry:
            return entry
    if name.isdigit():
        raise UsageError(
            f"--set {shown(override)}: address a method by its name, for example distillation.urfm.heads=4"
        )
    entries.append(added)
    return added
