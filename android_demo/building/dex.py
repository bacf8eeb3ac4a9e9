"""Reading dex files: classes, and every field and method they refer to."""

import struct
from dataclasses import dataclass

from building.class_files import Platform
from building.errors import BuildError

OBJECT = ("<init>", "clone", "equals", "finalize", "getClass", "hashCode", "notify", "notifyAll", "toString", "wait")
"""Methods of java.lang.Object, where every search for an inherited method ends."""


@dataclass(frozen=True)
class Dex:
    """Names are internal (android/app/Activity).

    Attributes:
        parents: of each class defined here, its superclass and interfaces.
        members: every (owner, name, descriptor) that is declared or referred to.
        declared: those of them that the classes here declare.
        types: every type referred to.
    """

    parents: dict[str, tuple[str, ...]]
    members: frozenset[tuple[str, str, str]]
    declared: frozenset[tuple[str, str, str]]
    types: frozenset[str]


def read_dex(data: bytes) -> Dex:
    """Parses one classes.dex (Dalvik executable format, versions 035 to 040)."""
    if data[:4] != b"dex\n":
        raise BuildError("classes.dex is not a dex file")
    sizes = struct.unpack_from("<14I", data, 56)
    n_str, at_str, n_type, at_type, n_proto, at_proto = sizes[:6]
    n_field, at_field, n_method, at_method, n_class, at_class = sizes[6:12]
    strings = [_string(data, struct.unpack_from("<I", data, at_str + 4 * i)[0]) for i in range(n_str)]
    types = [strings[struct.unpack_from("<I", data, at_type + 4 * i)[0]] for i in range(n_type)]

    def type_list(at: int) -> list[str]:
        if at == 0:
            return []
        (number,) = struct.unpack_from("<I", data, at)
        return [types[i] for i in struct.unpack_from(f"<{number}H", data, at + 4)]

    protos = []
    for i in range(n_proto):
        _, result, parameters = struct.unpack_from("<III", data, at_proto + 12 * i)
        protos.append(f"({''.join(type_list(parameters))}){types[result]}")
    fields = []
    for i in range(n_field):
        owner, kind, name = struct.unpack_from("<HHI", data, at_field + 8 * i)
        fields.append((_internal(types[owner]), strings[name], types[kind]))
    methods = []
    for i in range(n_method):
        owner, proto, name = struct.unpack_from("<HHI", data, at_method + 8 * i)
        methods.append((_internal(types[owner]), strings[name], protos[proto]))
    parents: dict[str, tuple[str, ...]] = {}
    declared = set()
    for i in range(n_class):
        this, _, parent, interfaces, _, _, body, _ = struct.unpack_from("<8I", data, at_class + 32 * i)
        above = [] if parent == 0xFFFFFFFF else [types[parent]]
        parents[_internal(types[this])] = tuple(map(_internal, above + type_list(interfaces)))
        if body:
            declared.update(_declared(data, body, fields, methods))
    return Dex(parents, frozenset(fields + methods), frozenset(declared), frozenset(_internal(t) for t in types))


def unresolved(dex: Dex, platform: Platform, prefix: str, own: str) -> list[str]:
    """References to `prefix` classes that neither dex nor platform has, also through the superclasses of `own` classes.

    Args:
        prefix: such as "android/".
        own: prefix of the app's classes: a call of an inherited method names the app's class as its owner.
    """

    def exists(owner: str, member: tuple[str, str]) -> bool:
        if (owner, *member) in dex.declared:
            return True
        if owner in dex.parents:
            return any(exists(parent, member) for parent in dex.parents[owner])
        if owner == "java/lang/Object":
            return member[0] in OBJECT
        found = platform.find(owner)
        if found is None:
            # android-all holds no java.*: an enum's ordinal() or an AutoCloseable's close() is taken as given.
            return not owner.startswith(prefix)
        return member in found.members or any(exists(parent, member) for parent in found.parents)

    known = dex.parents.keys()
    missing = [t for t in dex.types if t.startswith(prefix) and t not in known and platform.find(t) is None]
    for owner, name, descriptor in dex.members:
        if owner.startswith((prefix, own)) and not exists(owner, (name, descriptor)):
            missing.append(f"{owner}.{name}{descriptor}")
    return sorted(missing)


def _internal(descriptor: str) -> str:
    """Landroid/app/Activity; -> android/app/Activity; arrays to their element; primitives unchanged."""
    bare = descriptor.lstrip("[")
    return bare[1:-1] if bare.startswith("L") else bare


def _string(data: bytes, at: int) -> str:
    _, at = _uleb(data, at)
    return data[at : data.index(b"\0", at)].replace(b"\xc0\x80", b"\0").decode("utf-8", "surrogatepass")


def _uleb(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def _declared(data: bytes, at: int, fields: list, methods: list) -> set[tuple[str, str, str]]:
    counts = []
    for _ in range(4):
        count, at = _uleb(data, at)
        counts.append(count)
    found = set()
    for table, count, words in zip((fields, fields, methods, methods), counts, (1, 1, 2, 2), strict=True):
        index = 0
        for _ in range(count):
            step, at = _uleb(data, at)
            index += step
            for _ in range(words):
                _, at = _uleb(data, at)
            found.add(table[index])
    return found
