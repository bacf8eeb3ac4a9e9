"""Reading Java class files: what a platform's jar declares."""

import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path

# Bytes after the tag of each constant (JVM specification 4.4); Utf8 (1) has its own length.
_TWO, _THREE, _EIGHT = (7, 8, 16, 19, 20), (15,), (5, 6)
_FOUR = (3, 4, 9, 10, 11, 12, 17, 18)
_CONSTANT_BYTES = {tag: n for n, tags in ((2, _TWO), (3, _THREE), (4, _FOUR), (8, _EIGHT)) for tag in tags}


@dataclass(frozen=True)
class ClassFile:
    """Names are internal (android/app/Activity); a member is its name and descriptor, as in (onCreate, (...)V).

    Attributes:
        parents: superclass and interfaces.
        members: fields and methods declared here.
    """

    name: str
    parents: tuple[str, ...]
    members: frozenset[tuple[str, str]]


class Platform:
    """The classes of a jar, read when they are asked for."""

    def __init__(self, jar: Path) -> None:
        self._zip = zipfile.ZipFile(jar)
        self._names = set(self._zip.namelist())
        self._read: dict[str, ClassFile] = {}

    def find(self, name: str) -> ClassFile | None:
        """The class of an internal name, or None."""
        if name not in self._read:
            entry = f"{name}.class"
            if entry not in self._names:
                return None
            self._read[name] = parse(self._zip.read(entry))
        return self._read[name]


def parse(data: bytes) -> ClassFile:
    """One class file."""
    constants: dict[int, str | int] = {}
    (count,) = struct.unpack_from(">H", data, 8)
    at, index = 10, 1
    while index < count:
        tag = data[at]
        at += 1
        if tag == 1:
            (length,) = struct.unpack_from(">H", data, at)
            # Java's own UTF-8 writes NUL as two bytes.
            text = data[at + 2 : at + 2 + length].replace(b"\xc0\x80", b"\0")
            constants[index] = text.decode("utf-8", "surrogatepass")
            at += 2 + length
        else:
            if tag == 7:
                (constants[index],) = struct.unpack_from(">H", data, at)
            at += _CONSTANT_BYTES[tag]
            index += tag in (5, 6)
        index += 1

    def class_name(i: int) -> str:
        return str(constants[int(constants[i])])

    _, this, parent, interfaces = struct.unpack_from(">HHHH", data, at)
    at += 8
    names = [class_name(i) for i in struct.unpack_from(f">{interfaces}H", data, at)]
    at += 2 * interfaces
    members = set()
    for _ in range(2):
        (number,) = struct.unpack_from(">H", data, at)
        at += 2
        for _ in range(number):
            _, name, descriptor, attributes = struct.unpack_from(">HHHH", data, at)
            at += 8
            members.add((str(constants[name]), str(constants[descriptor])))
            for _ in range(attributes):
                (length,) = struct.unpack_from(">I", data, at + 2)
                at += 6 + length
    parents = ([class_name(parent)] if parent else []) + names
    return ClassFile(class_name(this), tuple(parents), frozenset(members))
