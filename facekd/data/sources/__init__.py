"""The kinds of data set: one file a kind, each of which says what it opens.

A kind of your own is a class in any package, named on the command line or in a recipe as `package.module:Class`, or by
its name once its package registers it under the entry-point group `facekd.sources`.
"""

import re
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from facekd.common.errors import UsageError
from facekd.common.registry import Registry
from facekd.data.source import Source


class SourceKind(ABC):
    """How one kind of data set is recognised and opened. `NAME:TEXT` opens it too, NAME the name it is registered by.

    Attributes:
        example: what one gives to open it, for messages.
        catch_all: it opens what no other kind does.
    """

    example: ClassVar[str] = ""
    catch_all: ClassVar[bool] = False

    @classmethod
    def opens(cls, path: Path) -> bool:
        """Whether a path is one of this kind, there or not; for kinds that are files or folders."""
        del path
        return False

    @classmethod
    @abstractmethod
    def open(cls, text: str, *, size: tuple[int, int] | None) -> Source:
        """Opens one.

        Args:
            text: the path, or what follows `NAME:`.
            size: (height, width) every image must have; None admits any.

        Raises:
            UsageError: nothing of the kind is there.
            FacekdError: it is there and cannot be read.
        """


SOURCES: Registry[type[SourceKind]] = Registry("data source", package="facekd.data.sources", group="facekd.sources")
"""Name -> kind."""

_CODE = re.compile(r"([A-Za-z_][\w.]*:[A-Za-z_]\w*)(?::(.*))?", re.DOTALL)
"""`package.module:Class`, then perhaps what it opens."""


def find_source(text: str) -> tuple[type[SourceKind], str] | None:
    """The kind of source that a text names, or that opens a path and is no mere folder of images, and what it opens.

    None where no kind claims the text; nothing is opened.

    Raises:
        UsageError: several kinds claim it, or it names code that is not trusted.
    """
    names = SOURCES.names()
    name, colon, rest = text.partition(":")
    if colon and name in names:
        return SOURCES.find(name), rest
    if (code := _CODE.fullmatch(text)) and not Path(text).exists():
        return SOURCES.find(code[1]), code[2] or ""
    kind = that_opens(text, catch_all=False)
    return None if kind is None else (kind, text)


def valid_sources() -> str:
    """What one can give to open a source, in words."""
    return ", ".join(example for name in SOURCES.names() if (example := SOURCES.find(name).example))


def that_opens(text: str, *, catch_all: bool) -> type[SourceKind] | None:
    """The one kind of these that says it opens a path. Raises UsageError where several do."""
    kinds = {name: SOURCES.find(name) for name in SOURCES.names()}
    found = [name for name, kind in kinds.items() if kind.catch_all == catch_all and kind.opens(Path(text))]
    if len(found) > 1:
        choices = " or ".join(f"{name}:{text}" for name in found)
        raise UsageError(f"{text} can be read as {' and as '.join(found)}: give {choices}")
    return kinds[found[0]] if found else None
