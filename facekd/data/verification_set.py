"""Pairs of faces to verify: InsightFace's .bin files, LFW's pairs.txt with its photographs, synthetic pairs.

A .bin is a pickle of (images, issame) from the internet, and a pickle can run any code: it is read by an unpickler that
admits bytes, bool, list, tuple and NumPy's array reconstruction, and refuses everything else by name.
"""

import io
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facekd.common.errors import FacekdError, UsageError
from facekd.common.hashing import parts_sha256
from facekd.data.decoding import check_size, decode_image
from facekd.data.source import ALIGNED_SIZE, UnreadableImage

PairImage = bytes | np.ndarray | Path


class VerificationSet:
    """N pairs: images 2i and 2i + 1 form pair i. Images stay encoded until they are asked for.

    Attributes:
        name: short name for reports.
        issame: bool [N].
        fold_sizes: pairs in each published fold, in order, or None where the set publishes none.
    """

    def __init__(
        self,
        name: str,
        images: Sequence[PairImage],
        issame: np.ndarray | Sequence[bool],
        *,
        size: tuple[int, int] | None = ALIGNED_SIZE,
        fold_sizes: Sequence[int] | None = None,
    ) -> None:
        """
        Args:
            name: short name for reports.
            images: 2N encoded images, uint8 RGB [h, w, 3] arrays, or paths of image files.
            issame: N truths.
            size: (height, width) every image must have; None admits any.
            fold_sizes: pairs a fold, where the protocol publishes folds.
        """
        self.name = name
        self._images = images
        self.issame = np.asarray(issame, dtype=bool)
        if self.issame.ndim != 1 or len(images) != 2 * len(self.issame):
            raise FacekdError(f"{name}: {len(images)} images for {self.issame.size} pairs, a pair needs two")
        if len(self.issame) == 0:
            raise FacekdError(f"{name} holds no pair")
        self.size = size
        self.fold_sizes = list(fold_sizes) if fold_sizes is not None else None

    def __len__(self) -> int:
        return len(self.issame)

    @property
    def num_images(self) -> int:
        """2 N."""
        return len(self._images)

    def key(self, i: int) -> str:
        """Name of image `i`."""
        image = self._images[i]
        return f"{image.parent.name}/{image.name}" if isinstance(image, Path) else f"{self.name}[{i}]"

    def encoded(self, i: int) -> bytes | np.ndarray:
        """Image `i` as it is stored. Raises UnreadableImage."""
        image = self._images[i]
        if not isinstance(image, Path):
            return image
        try:
            return image.read_bytes()
        except OSError as error:
            raise UnreadableImage(self.key(i), f"cannot be read ({error.strerror})") from None

    def image(self, i: int) -> np.ndarray:
        """Image `i` of 2N as uint8 RGB [h, w, 3]. Raises UnreadableImage."""
        data = self.encoded(i)
        if isinstance(data, bytes):
            return decode_image(data, self.key(i), self.size)
        if data.dtype == np.uint8 and data.ndim == 3 and data.shape[2] == 3:
            check_size(data, self.key(i), self.size)
            return data
        if data.dtype == np.uint8 and data.ndim == 1:
            return decode_image(data.tobytes(), self.key(i), self.size)
        raise UnreadableImage(self.key(i), f"array of {data.dtype} {data.shape}, not uint8 [h, w, 3] or encoded bytes")

    def fingerprint(self) -> str:
        """sha256 (hex) over the stored images and the truths."""
        stored = (self.encoded(i) for i in range(self.num_images))
        images = (data if isinstance(data, np.ndarray) else np.frombuffer(data, np.uint8) for data in stored)
        return parts_sha256("pairs", self.issame, *images)


def load_verification_set(
    path: str | Path,
    images: str | Path | None = None,
    *,
    folds: Sequence[int] | None = None,
    size: tuple[int, int] | None = ALIGNED_SIZE,
) -> VerificationSet:
    """Loads a set of pairs.

    Args:
        path: a .bin file, a pairs.txt as LFW publishes it, or `synthetic:identities=64,pairs=600,seed=0`.
        images: with pairs.txt, the folder of Name/Name_0001.jpg (or .png).
        folds: with pairs.txt, the 1-based folds to keep, for a folder that holds only some.
        size: (height, width) every image must have; None admits any.

    Raises:
        UsageError: the path or options are not valid.
        FacekdError: the file is damaged, holds what a set of pairs has no need of, or photographs are missing.
    """
    text = str(path)
    if text.startswith("synthetic:"):
        from facekd.data.synthetic import synthetic_pairs

        return synthetic_pairs(text.removeprefix("synthetic:"))
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"no verification set at {path}: give a .bin, a pairs.txt with its images, or synthetic:")
    if path.suffix == ".txt":
        from facekd.data.pairs import load_pairs

        if images is None:
            raise UsageError(f"{path} only names the pairs: give the folder of their images too")
        return load_pairs(path, Path(images), folds=folds, size=size)
    if folds is not None or images is not None:
        raise UsageError(f"{path} carries its own images: `images` and `folds` belong to a pairs.txt")
    return read_bin(path, size=size)


def read_bin(path: Path, *, size: tuple[int, int] | None = ALIGNED_SIZE) -> VerificationSet:
    """Reads an InsightFace .bin without running anything it holds."""
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
    for i, image in enumerate(images):
        if not isinstance(image, bytes | np.ndarray):
            raise FacekdError(f"{path}: image {i} is a {type(image).__name__}, not bytes or an array")
    truth = np.asarray(issame)
    if truth.size and truth.dtype.kind not in "bui":
        raise FacekdError(f"{path}: issame holds {truth.dtype}, not truths")
    return VerificationSet(path.stem, list(images), truth.astype(bool), size=size)


def write_bin(path: str | Path, pairs: VerificationSet, *, overwrite: bool = False) -> None:
    """Writes a set in InsightFace's .bin format: a pickle (protocol 2) of (list of 2N bytes, list of N bools)."""
    from facekd.common.writing import atomic_file
    from facekd.data.decoding import encode_png

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
        raise FacekdError(f"refused: _codecs.encode with {encoding!r}")
    return text.encode("latin1")


def _empty_bytes(*arguments: Any) -> bytes:
    """How protocol 2 stores b"": bytes()."""
    if arguments and not (len(arguments) == 1 and isinstance(arguments[0], list | bytes)):
        raise FacekdError("refused: bytes() of something that is not a list of numbers")
    return bytes(*arguments)


def _dtype(*arguments: Any) -> np.dtype:
    """Plain number types only: an object dtype would hold anything."""
    dtype = np.dtype(*arguments)
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
        plain = {"list": list, "tuple": tuple, "bool": bool, "bytes": _empty_bytes}
        table |= {(builtins, name): value for name, value in plain.items()}
    for core in ("numpy.core", "numpy._core"):
        table[f"{core}.multiarray", "_reconstruct"] = reconstruct
        table[f"{core}.multiarray", "scalar"] = scalar
        table[f"{core}.numeric", "_frombuffer"] = frombuffer
    return table


_ADMITTED = _admitted()
