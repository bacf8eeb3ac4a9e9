"""Checks of ONNX Runtime's native libraries before they go into an app."""

import re
import struct
from pathlib import Path

from building.errors import BuildError

PAGE = 0x4000
VERSIONS = ("1.27", "1.28")


def check_library(path: Path, name: str) -> None:
    """Refuses a library whose segments are not aligned to 16 KB pages, or one of a version that sends telemetry.

    Raises:
        BuildError: either.
    """
    data = path.read_bytes()
    for alignment in load_alignments(data, name):
        if alignment < PAGE:
            raise BuildError(
                f"{name} is aligned to {alignment} bytes; Android 15 asks for 16384: take ONNX Runtime >= 1.27"
            )
    if path.name == "libonnxruntime.so":
        found = sorted(set(re.findall(rb"VERS_(\d+\.\d+)\.\d+", data)))
        versions = [v.decode() for v in found]
        if not any(v in VERSIONS for v in versions):
            raise BuildError(
                f"{name} is ONNX Runtime {', '.join(versions) or 'of unknown version'}; "
                f"valid are {' and '.join(VERSIONS)}: older ones lack 16 KB pages, later ones send telemetry"
            )


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
