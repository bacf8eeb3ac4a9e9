"""Code that a file names: the one place where facekd imports `package.module:name`, and the rule for it.

Recipes, cards and manifests are downloaded and shared, and importing a module runs it. So code outside facekd is
imported only where the environment variable FACEKD_TRUSTED_MODULES lists its module or a package that holds it.
"""

import importlib
import os
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from facekd.common.errors import UsageError

TRUSTED_MODULES = "FACEKD_TRUSTED_MODULES"


class NamesCode:
    """Marks a schema's field that may name code, as a string, a list of them or the keys of a mapping."""


def names_code(name: str) -> bool:
    """Whether a name is `package.module:name`, and not the name of something registered."""
    return ":" in name


def check_trusted(name: str, *, wanted_by: str) -> None:
    """Refuses `package.module:name` outside the trusted modules, without importing anything.

    Args:
        name: as it stands in the recipe, card, manifest or on the command line.
        wanted_by: what names it, to begin the message with: "recipe r.yaml", "bundle teacher/".

    Raises:
        UsageError: its module is not trusted.
    """
    module = name.partition(":")[0]
    trusted = {entry.strip() for entry in os.environ.get(TRUSTED_MODULES, "").split(",") if entry.strip()}
    packages = [module.rsplit(".", count)[0] for count in range(module.count(".") + 1)]
    if trusted.isdisjoint(packages):
        raise UsageError(
            f"{wanted_by} wants to run {name[:200]!r}; if you trust that code, set {TRUSTED_MODULES}={module[:200]}"
        )


def import_code(name: str, *, wanted_by: str) -> Any:
    """What `package.module:name` names, imported if it is trusted.

    Raises:
        UsageError: it is not trusted, its module cannot be imported, or the module has no such name.
    """
    check_trusted(name, wanted_by=wanted_by)
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, ValueError) as error:
        raise UsageError(
            f"{wanted_by}: cannot import module {module_name!r} ({error}); give package.module:name of something "
            "installed or on PYTHONPATH"
        ) from error
    if not attribute or not hasattr(module, attribute):
        raise UsageError(f"{wanted_by}: module {module_name!r} has no {attribute!r}, which {name!r} names")
    return getattr(module, attribute)


def check_all_trusted(schema: BaseModel, *, wanted_by: str) -> None:
    """`check_trusted` for every name in the fields of a schema that are marked with `NamesCode`, however deep."""
    for name in _names_in(schema):
        if names_code(name):
            check_trusted(name, wanted_by=wanted_by)


def _names_in(value: Any, *, marked: bool = False) -> Iterator[str]:
    if isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            here = any(isinstance(entry, NamesCode) for entry in field.metadata)
            yield from _names_in(getattr(value, name), marked=here)
    elif isinstance(value, dict):
        if marked:
            yield from value
        for entry in value.values():
            yield from _names_in(entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _names_in(entry, marked=marked)
    elif marked and isinstance(value, str):
        yield value
