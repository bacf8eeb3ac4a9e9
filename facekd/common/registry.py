"""Things by name: what facekd ships, what other packages add by entry points, and `package.module:Class` of the user's.

A registry names a package, and every module of it registers what it holds by a decorator; so adding a runtime, a
teacher, a loss or a data source is one file in that package. Another package adds its own without touching facekd:

    [options.entry_points]
    facekd.losses =
        my-loss = my_package.my_loss:MyLoss
"""

import difflib
import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from facekd.common.errors import UsageError
from facekd.common.trust import import_code, names_code
from facekd.common.validation import shown

Entry = TypeVar("Entry")
Registered = TypeVar("Registered")


class Registry(Generic[Entry]):
    """The entries of one kind, imported when a name is first asked for.

    Args:
        what: one of them, for messages: "distillation loss".
        package: the package whose modules register the shipped ones; a name of its own is enough, nothing is imported.
        group: the entry-point group by which other packages add theirs. Being installed is what makes them trusted.
        example: of a name that is code, for messages.
        first: names that come first, in this order.
    """

    def __init__(
        self, what: str, *, package: str, group: str, example: str = "package.module:Class", first: Sequence[str] = ()
    ) -> None:
        self.what, self.package, self.group, self.example = what, package, group, example
        self._entries: dict[str, Entry] = {}
        self._first = list(first)
        self._complete = False

    def register(self, name: str, entry: Entry) -> None:
        """Makes an entry known by a name.

        Raises:
            ValueError: the name stands for something else already.
        """
        if self._entries.get(name, entry) is not entry:
            raise ValueError(f"{self.what} {name!r} is registered twice: {self._entries[name]} and {entry}")
        self._entries[name] = entry

    def decorator(self, name: str) -> Callable[[Registered], Registered]:
        """Registers what it decorates, which must be an Entry."""

        def decorate(entry: Registered) -> Registered:
            self.register(name, entry)  # type: ignore[arg-type]
            return entry

        return decorate

    def find(self, name: str, *, wanted_by: str | None = None) -> Entry:
        """The entry of a name, or the code that `package.module:Class` names.

        Args:
            wanted_by: what names it, for the message about code that is not trusted; default: what the registry holds.

        Raises:
            UsageError: there is none (the message has the valid names), or it is code that is not trusted.
        """
        if names_code(name):
            code: Entry = import_code(name, wanted_by=wanted_by or f"the {self.what}")
            return code
        if name not in self._entries:
            self._load(name)
        if name not in self._entries:
            close = difflib.get_close_matches(name, self._entries, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise UsageError(
                f"unknown {self.what} {shown(name)}{hint}; valid: {', '.join(self.names())} or {self.example}"
            )
        return self._entries[name]

    def names(self) -> list[str]:
        """All names: first those that come first, then the others, sorted."""
        self._load_all()
        return [name for name in self._first if name in self._entries] + sorted(self._entries.keys() - {*self._first})

    def _load(self, name: str) -> None:
        """Imports the module that the name leads to, if there is one of that name; else all."""
        module = name.replace("-", "_")
        if module.isidentifier() and importlib.util.find_spec(f"{self.package}.{module}") is not None:
            importlib.import_module(f"{self.package}.{module}")
        if name not in self._entries:
            self._load_all()

    def _load_all(self) -> None:
        if self._complete:
            return
        package: Any = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            if not module.name.startswith("_"):
                importlib.import_module(f"{self.package}.{module.name}")
        for entry in entry_points(group=self.group):
            if entry.name not in self._entries:  # a shipped name is never replaced by an installed package
                self.register(entry.name, entry.load())
        self._complete = True
