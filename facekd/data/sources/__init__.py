"""The kinds of data set: one file a kind, each of which says what it opens.

A kind of your own is a class in any package, named on the command line or in a recipe as `package.module:Class`, or by
its name once its package registers it under the entry-point group `facekd.sources`.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

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
