"""Known ways to make a reader run code, write elsewhere, hang or fill the memory."""

import json
import pickle
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.faults.targets import Target


def tricks(target: Target, whole: bytes, canary: Path) -> Iterator[tuple[str, bytes]]:
    """(name, content) of the files that fit a target; their code would make the file `canary`."""
    yield "empty", b""
    yield "zeros", bytes(4096)
    yield "text", b"\xff\xfe\x00 no such thing\n" * 10
    touch = f"touch {canary}"
    for module, name, arguments in (
        ("os", "system", (touch,)),
        ("builtins", "exec", (f"open({str(canary)!r}, 'w')",)),
        ("builtins", "eval", (f"open({str(canary)!r}, 'w')",)),
        ("subprocess", "getoutput", (touch,)),
        ("numpy", "save", (str(canary), b"")),
        ("torch", "load", (str(canary),)),
        ("builtins", "getattr", ("os", "system")),
    ):
        yield f"a pickle of {module}.{name}", _call_pickle(module, name, arguments)
    if target.form in ("json", "yaml"):
        yield "200,000 open brackets", b"[" * 200_000
        yield "deep braces", b'{"a":' * 100_000 + b"1" + b"}" * 100_000
        yield "a number of a million digits", b'{"schema_version": ' + b"9" * 1_000_000 + b"}"
        yield "not a mapping", b"[1, 2, 3]\n"
    if target.form == "yaml":
        yield "a YAML tag", f"name: !!python/object/apply:os.system ['{touch}']\n".encode()
        laughs = "".join(f"k{i}: &k{i} [{', '.join([f'*k{i - 1}'] * 9)}]\n" for i in range(1, 12))
        yield "a billion laughs", ("k0: &k0 [lol]\n" + laughs).encode() + whole
    if target.name == ".bin pairs":
        for side in (8192, 30_000):  # the largest that is read, and one that is not
            yield f"a picture of {side} x {side}", pickle.dumps(([_png_bomb(side)] * 2, [True]), protocol=2)
        yield "an array of 10 GB", _call_pickle("numpy", "ndarray", ((10**10,), "u1"))
    if target.name == "record file":
        payload = struct.pack("<IfQQ", 0, 0.0, 0, 0) + _png_bomb(30_000)
        frame = struct.pack("<II", 0xCED7230A, len(payload)) + payload + b"\0" * (-len(payload) % 4)
        yield "a picture of 30,000 x 30,000", frame
    if target.name == "weights":
        yield "a header of 2^63 bytes", struct.pack("<Q", 2**63) + whole[8:]
        header = json.dumps({"w": {"dtype": "F32", "shape": [10**10], "data_offsets": [0, 4 * 10**10]}}).encode()
        yield "a tensor of 40 GB", struct.pack("<Q", len(header)) + header
    if target.name == "card":
        card = json.loads(whole)
        for key, value in (
            ("scale", 1e6), ("blocks", [10**9, 1, 1, 1]), ("embedding_width", 10**9), ("feature_channels", 10**9),
            ("blocks", "abc"), ("activation", ["relu"]), ("scale", None),
        ):  # fmt: skip
            card["architecture"]["arguments"] = {**json.loads(whole)["architecture"]["arguments"], key: value}
            yield f"{key} = {value}", json.dumps(card).encode()
        for name in ("os:system", "subprocess:run", "timm/resnet50", "../x"):
            card["architecture"] = {"name": name, "arguments": {}}
            yield f"architecture {name}", json.dumps(card).encode()
    if target.name == "manifest":
        for key, value in (("model", "../../../../../../etc/passwd"), ("model", "/etc/passwd"), ("model", "..")):
            manifest = json.loads(whole) | {key: value}
            manifest["files"] = {**manifest["files"], value: "00"}
            yield f"{key} = {value}", json.dumps(manifest).encode()


def _call_pickle(module: str, name: str, arguments: tuple[Any, ...]) -> bytes:
    """A pickle that calls module.name(*arguments) when an ordinary unpickler loads it."""
    body = pickle.dumps(arguments, protocol=2)[2:-1]
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + body + b"R."


def _png_bomb(side: int) -> bytes:
    """A black PNG of side x side in few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    # One compressed block of zeros, repeated: writing 2.7 GB through zlib would take a minute.
    total, part = side * (3 * side + 1), 2**20
    packer = zlib.compressobj(9, wbits=-15)
    block = packer.compress(bytes(part)) + packer.flush(zlib.Z_FULL_FLUSH)
    end = packer.compress(bytes(total % part)) + packer.flush()
    rows = b"\x78\xda" + block * (total // part) + end + struct.pack(">HH", total % 65521, 1)  # Adler-32 of zeros
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
