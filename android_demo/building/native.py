"""Checks of ONNX Runtime's native libraries before they go into an app."""

import re
import struct
from pathlib import Path

from building.errors import BuildError
from building.pins import JAVA_API

PAGE = 0x4000


def check_library(path: Path, name: str) -> str:
    """The version (such as "1.28") of one of ONNX Runtime's libraries.

    Raises:
        BuildError: its segments are not aligned to 16 KB pages, its version sends telemetry, or its Java API is not
            pinned.
    """
    data = path.read_bytes()
    for alignment in load_alignments(data, name):
        if alignment < PAGE:
            raise BuildError(
                f"{name} is aligned to {alignment} bytes; Android 15 asks for 16384: take a newer ONNX Runtime"
            )
    found = sorted(set(re.findall(rb"VERS_(\d+\.\d+)\.\d+", data)))
    versions = [v.decode() for v in found]
    if len(versions) != 1 or versions[0] not in JAVA_API:
        raise BuildError(
            f"{name} is ONNX Runtime {', '.join(versions) or 'of unknown version'}; "
            f"valid are {' and '.join(JAVA_API)}: 1.29 and later send telemetry, others' Java API is not pinned"
        )
    return versions[0]


def load_alignments(data: bytes, name: str) -> list[int]:
    """Alignment in bytes of each loadable segment of a 64-bit ELF file."""
    if data[:6] != b"\x7fELF\x02\x01":
        raise BuildError(f"{name} is not a little-endian 64-bit ELF library")
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    found = []
    for i in range(count):
        (kind,) = struct.unpack_from("<I", data, table + i * size)
        if kind == 1:
            found.append(struct.unpack_from("<Q", data, table + i * size + 48)[0])
    return found
