"""InsightFace's .bin sets of pairs, read without running anything they hold, and written.

A .bin is a pickle of (images, issame) from the internet, and a pickle can run any code: it is read by an unpickler that
admits bytes, bool, list, tuple and NumPy's array reconstruction, and refuses everything else by name.
"""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from facekd.common.errors import FacekdError
from facekd.common.file_kind import check_not_a_stand_in
from facekd.common.validation import shown
from facekd.common.writing import atomic_file
from facekd.data.decoding import encode_png
from facekd.data.source import ALIGNED_SIZE
from facekd.data.verification_set import VerificationSet


def read_bin(path: Path, *, size: tuple[int, int] | None = ALIGNED_SIZE) -> VerificationSet:
    """Reads an InsightFace .bin without running anything it holds."""
    check_not_a_stand_in(path, "a .bin verification set")
    data = path.read_bytes()
    try:
        loaded = _Unpickler(io.BytesIO(data), encoding="bytes").load()
    except FacekdError as error:
        raise FacekdError(f"{path}: {error}") from None
    except _DAMAGED as error:
        raise FacekdError(f"{path} is not a .bin verification set, or is damaged ({error})") from None
    if not isinstance(loaded, tuple | list) or len(loaded) != 2:
        raise FacekdError(f"{path} does not hold (images, issame) but {type(loaded).__name__}")
    images, issame = loaded
    if not isinstance(images, list | tuple | np.ndarray) or not isinstance(issame, list | tuple | np.ndarray):
        raise FacekdError(f"{path} does not hold two lists but {type(images).__name__}, {type(issame).__name__}")
    stored = [_stored_image(image, i, path) for i, image in enumerate(images)]
    return VerificationSet(path.stem, stored, _truths(np.asarray(issame), path), size=size, adapt=True)


def _stored_image(image: Any, i: int, path: Path) -> bytes | np.ndarray:
    """Encoded bytes, or pixels. What cv2.imencode gives is a column [n, 1] of encoded bytes."""
    if isinstance(image, bytearray):
        return bytes(image)
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and sum(n != 1 for n in image.shape) <= 1:
        return image.tobytes()
    if not isinstance(image, bytes | np.ndarray):
        raise FacekdError(f"{path}: image {i} is a {type(image).__name__}, not bytes or an array")
    return image


def _truths(issame: np.ndarray, path: Path) -> np.ndarray:
    """bool [n] from True and False, 1 and 0, or 1 and -1."""
    if issame.dtype.kind not in "buif" and issame.size:
        raise FacekdError(f"{path}: issame holds {issame.dtype}, not truths")
    values = set(np.unique(issame).tolist())
    if not (values <= {0, 1} or values <= {-1, 1}):
        odd = sorted(values - {0, 1})[:3]
        raise FacekdError(f"{path}: issame holds {', '.join(map(str, odd))}: valid are 0 and 1, or -1 and 1")
    return issame > 0


def write_bin(path: str | Path, pairs: VerificationSet, *, overwrite: bool = False) -> None:
    """Writes a set in InsightFace's .bin format: a pickle (protocol 2) of (list of 2N bytes, list of N bools)."""
    images = []
    for i in range(pairs.num_images):
        data = pairs.encoded(i)
        images.append(data if isinstance(data, bytes) else encode_png(pairs.image(i)))
    with atomic_file(Path(path), overwrite=overwrite) as file:
        pickle.dump((images, [bool(same) for same in pairs.issame]), file, protocol=2)


# What pickle raises on bytes that are no pickle, besides its own error.
_DAMAGED = (
    pickle.UnpicklingError, EOFError, ValueError, TypeError, LookupError, AttributeError, OverflowError, ImportError,
    MemoryError, AssertionError,
)  # fmt: skip


class _Unpickler(pickle.Unpickler):
    """Admits what NumPy arrays and Python 2's and 3's bytes need; refuses every other global by name."""

    def find_class(self, module: str, name: str) -> Any:
        admitted = _ADMITTED.get((module, name))
        if admitted is None:
            raise FacekdError(
                f"refused: the file asks for {module}.{name}, which a verification set has no need of and which could "
                "run code; do not trust it"
            )
        return admitted

    def persistent_load(self, pid: Any) -> Any:
        raise FacekdError("refused: the file refers to objects outside itself")


def _latin1_bytes(text: str | bytes, encoding: str | bytes = "latin1") -> bytes:
    """How protocol 2 stores Python 3's bytes: _codecs.encode(text, "latin1"), and no other codec."""
    if encoding not in ("latin1", b"latin1") or not isinstance(text, str):
        raise FacekdError(f"refused: _codecs.encode with {shown(encoding)}")
    return text.encode("latin1")


def _empty_bytes(*arguments: Any) -> bytes:
    """How protocol 2 stores b"": bytes()."""
    if arguments and not (len(arguments) == 1 and isinstance(arguments[0], list | bytes)):
        raise FacekdError("refused: bytes() of something that is not a list of numbers")
    return bytes(*arguments)


def _bytearray(*arguments: Any) -> bytearray:
    """How bytearrays are stored: of bytes, or (protocol 2) of latin1 text; never of a number, which would be a size."""
    match arguments:
        case ():
            return bytearray()
        case (bytes() as content,):
            return bytearray(content)
        case (str() as text, "latin-1" | b"latin-1" | "latin1" | b"latin1"):
            return bytearray(text, "latin1")
    raise FacekdError("refused: bytearray() of something that is not bytes")


def _dtype(*arguments: Any) -> np.dtype:
    """Plain number types only: an object dtype would hold anything."""
    dtype: np.dtype = np.dtype(*arguments)
    if dtype.hasobject:
        raise FacekdError(f"refused: an array of {dtype}")
    return dtype


def _admitted() -> dict[tuple[str, str], Any]:
    reconstruct = np.empty(0).__reduce__()[0]
    scalar = np.float64(0).__reduce__()[0]
    frombuffer = np.empty(0).__reduce_ex__(5)[0]  # protocol 5, bytes in band
    table: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): _dtype,
        ("_codecs", "encode"): _latin1_bytes,
    }
    for builtins in ("builtins", "__builtin__"):
        plain = {"list": list, "tuple": tuple, "bool": bool, "bytes": _empty_bytes, "bytearray": _bytearray}
        table |= {(builtins, name): value for name, value in plain.items()}
    for core in ("numpy.core", "numpy._core"):
        table[f"{core}.multiarray", "_reconstruct"] = reconstruct
        table[f"{core}.multiarray", "scalar"] = scalar
        table[f"{core}.numeric", "_frombuffer"] = frombuffer
    return table


_ADMITTED = _admitted()
