"""What `distillation` and `teacher` in a recipe may name: losses, and kinds of teachers.

Both are found through registries, which import what they hold by its name; so a recipe's names and settings are checked
here although no import statement leads from here to distillation.
"""

import difflib
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

from pydantic import ValidationError

from facekd.common.errors import UsageError
from facekd.common.registry import Registry
from facekd.common.trust import names_code
from facekd.common.validation import StrictSchema, explain, shown


class MethodSettings(StrictSchema):
    """Base of a method's settings in the recipe: unknown fields are errors."""


class Method(Protocol):
    """What the recipe asks of a class that it names.

    Attributes:
        Settings: schema of its settings.
        teaches: whom an entry of `distillation` that names it teaches: the student (a loss), or the teacher (one that
            learns while it teaches). None: it is no entry of that list, as a frozen teacher.
    """

    Settings: ClassVar[type[MethodSettings]]
    teaches: ClassVar[Literal["student", "teacher"] | None]


LOSSES: Registry[type[Method]] = Registry(
    "distillation loss", package="facekd.distillation.losses", group="facekd.losses"
)
TEACHERS: Registry[type[Method]] = Registry(
    "kind of teacher", package="facekd.distillation.teachers", group="facekd.teachers"
)


@dataclass(frozen=True)
class Entry:
    """One entry of `distillation`: the name it has there, the class that it names, its checked settings."""

    name: str
    method: type[Method]
    settings: MethodSettings

    @property
    def label(self) -> str:
        """The name in logs and checkpoints: the class's, where the recipe gives `package.module:Class`."""
        return self.name.rpartition(":")[2]


def normalised(given: Any) -> list[dict[str, dict[str, Any]]]:
    """The list `distillation` with every entry as {name: settings}: `urfm` and `{urfm: null}` are `{urfm: {}}`.

    Raises:
        ValueError: it is no list of methods, or names one twice.
    """
    if not isinstance(given, list):
        raise ValueError("is a list of methods, for example [{urfm: {}}, {embedding: {weight: 10}}]")
    entries: list[dict[str, dict[str, Any]]] = []
    for one in given:
        entry = {one: {}} if isinstance(one, str) else one
        if not isinstance(entry, dict) or len(entry) != 1:
            raise ValueError(f"each entry is one method with its settings, got {shown(one)}")
        name, settings = next(iter(entry.items()))
        entries.append({str(name): settings or {}})
    names = [next(iter(entry)) for entry in entries]
    if len(set(names)) != len(names):
        raise ValueError(f"each method at most once, got {shown(names)}")
    return entries


def entries_of(distillation: list[dict[str, dict[str, Any]]], *, wanted_by: str | None = None) -> list[Entry]:
    """The entries of `distillation` with what they name.

    Raises:
        UsageError: as `find_method` and `check_settings`.
    """
    found = []
    for entry in distillation:
        for name, values in entry.items():
            method = find_method(name, wanted_by=wanted_by)
            found.append(Entry(name, method, check_settings(name, method, values)))
    return found


def find_method(name: str, *, wanted_by: str | None = None) -> type[Method]:
    """The loss, or the kind of teacher that learns, that an entry of `distillation` names.

    Args:
        name: registered, or `package.module:Class` of a trusted module.
        wanted_by: what names it, for the message about code that is not trusted.

    Raises:
        UsageError: there is none, or its code is not trusted.
    """
    if names_code(name):
        return _checked(name, LOSSES.find(name, wanted_by=wanted_by))
    known = dict.fromkeys(LOSSES.names(), LOSSES)
    known |= {one: TEACHERS for one in TEACHERS.names() if TEACHERS.find(one).teaches == "teacher"}
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise UsageError(
            f"unknown distillation method {shown(name)}{hint}; "
            f"valid: {', '.join(sorted(known))} or package.module:Class"
        )
    return known[name].find(name)


def find_teacher(
    name: str, arguments: dict[str, Any], *, wanted_by: str | None = None
) -> tuple[type[Method], MethodSettings]:
    """The kind of teacher that `teacher.name` names, and its checked settings.

    Raises:
        UsageError: there is none, its code is not trusted, or it has no such settings.
    """
    kind = _checked(name, TEACHERS.find(name, wanted_by=wanted_by))
    return kind, check_settings(name, kind, arguments)


def check_settings(name: str, method: type[Method], values: dict[str, Any]) -> MethodSettings:
    """The settings of a method, checked.

    Raises:
        UsageError: an unknown setting, or a value that is not valid.
    """
    try:
        return method.Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
            valid = ", ".join(sorted(method.Settings.model_fields))
            raise UsageError(f"{name} has no setting {shown(first['loc'][0])}; valid: {valid}") from error
        raise UsageError(f"{name}{'.' if first['loc'] else ': '}{explain(error, method.Settings)}") from error


def _checked(name: str, found: type[Method]) -> type[Method]:
    settings = getattr(found, "Settings", None)
    if not (isinstance(found, type) and isinstance(settings, type) and issubclass(settings, StrictSchema)):
        raise UsageError(
            f"{name} is neither a distillation loss nor a teacher: derive it from "
            "facekd.distillation.losses.base.DistillationLoss or facekd.distillation.teachers.base.Teacher"
        )
    return found
