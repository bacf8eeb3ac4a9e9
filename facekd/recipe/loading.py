"""Reading a recipe: a YAML file or the name of a shipped one, with `a.b=c` overrides; a mistake is one line."""

from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from facekd.common.errors import UsageError, one_line
from facekd.common.trust import check_all_trusted
from facekd.common.validation import explain, shown
from facekd.common.yaml_text import MAX_CHARACTERS, parse_yaml
from facekd.recipe.overrides import apply_override
from facekd.recipe.schema import Recipe


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with facekd, by name."""
    folder = Path(str(resources.files("facekd.recipes")))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe.

    Args:
        path: a YAML file, or the name of a shipped recipe (`quickstart-distilled`).
        overrides: `a.b=value` strings; the value is YAML. A method in `distillation` is addressed by its name:
            `distillation.urfm.local_centres=16`.

    Raises:
        UsageError: no such recipe, not YAML, an unknown field, a value that is not valid, or code named by it that is
            not trusted.
    """
    path, content = read_yaml(path, kind="recipe", shipped=shipped_recipes, fields="data:, model:")
    for override in overrides:
        apply_override(content, override)
    try:
        recipe = Recipe.model_validate(content, context={"wanted_by": f"recipe {path}"})
    except ValidationError as error:
        raise UsageError(f"recipe {path}: {explain(error, Recipe)}") from error
    check_all_trusted(recipe, wanted_by=f"recipe {path}")
    return recipe


def read_yaml(
    path: str | Path, *, kind: str, shipped: Callable[[], dict[str, Path]], fields: str
) -> tuple[Path, dict[str, Any]]:
    """A YAML file of fields, by path or by the name of a shipped one: where it lies and what it holds.

    Args:
        kind: what the file is called in errors.
        shipped: the shipped ones by name.
        fields: examples of fields, for the error where there are none.

    Raises:
        UsageError: no such file, not YAML, or no fields.
    """
    path = Path(path)
    if not path.is_file():
        known = shipped()
        if str(path) not in known:
            raise UsageError(f"no {kind} {shown(str(path))}: give a YAML file or one of {', '.join(known)}")
        path = known[str(path)]
    try:
        if path.stat().st_size > MAX_CHARACTERS:
            raise UsageError(f"{kind} {path} is {path.stat().st_size:,} bytes long: that is no {kind}")
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except ValueError as error:  # no YAML, or bytes that are no text
        raise UsageError(f"{kind} {path} is not YAML: {one_line(error)}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{kind} {path} holds {type(content).__name__}, expected fields such as {fields}")
    return path, content
