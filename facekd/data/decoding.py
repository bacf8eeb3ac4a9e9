"""Encoded image -> uint8 RGB, with a reason when it cannot be. One place, because OpenCV alone passes damaged files.

Greyscale is repeated over three channels, 16 bits are reduced to 8, CMYK is converted, EXIF orientation is applied,
transparency is composited over black (the border value of aligned faces).
"""

import re
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from facekd.common.errors import FacekdError
from facekd.common.file_kind import AVIF, HEAD_BYTES, HEIC, kind_of
from facekd.data.heif import decode_heif
from facekd.data.source import UnreadableImage

MAX_PIXELS = 2**26
"""Larger images are refused before they are decoded: a few kilobytes may state gigabytes. 64 megapixels, facekd's
choice; a quarter of it with transparency, which takes four times the memory to remove."""

_JPEG_MARKER = re.compile(rb"\xff([^\x00\xff])")


def decode_image(data: bytes, key: str, size: tuple[int, int] | None = None) -> np.ndarray:
    """Decodes one image file held in memory.

    Args:
        data: the file's bytes (JPEG, PNG, BMP, WebP, HEIC, AVIF).
        key: the image's name, for the error.
        size: (height, width) it must have; None admits any.

    Returns:
        uint8 RGB [h, w, 3].

    Raises:
        UnreadableImage: empty, not an image of these kinds, cut short, larger than MAX_PIXELS, or of another size.
    """
    if not data:
        raise UnreadableImage(key, "0 bytes")
    kind = kind_of(data[:HEAD_BYTES])
    if kind in (HEIC, AVIF):
        photograph = decode_heif(data, kind, key, most_pixels=MAX_PIXELS // 4)
        check_size(photograph, key, size)
        return photograph
    if _cut_short(data):
        raise UnreadableImage(key, f"cut short: {len(data)} bytes without an end-of-image mark")
    transparent = _has_alpha(data)
    stated = _stated_size(data)
    if stated is None:  # OpenCV would read a dozen other formats, some of which hide gigabytes in few bytes
        what = f"starts {data[:4]!r}" if kind is None else f"is {kind.name}"
        raise UnreadableImage(key, f"not an image in JPEG, PNG, BMP, WebP, HEIC or AVIF ({len(data)} bytes, {what})")
    width, height = stated
    if width * height > MAX_PIXELS // (4 if transparent else 1):
        raise UnreadableImage(key, f"{width}x{height} pixels: larger than any photograph that is read here")
    try:
        flag = cv2.IMREAD_UNCHANGED if transparent else cv2.IMREAD_COLOR_RGB
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    except cv2.error as error:
        raise UnreadableImage(key, f"cannot be decoded ({error.err or error})") from None
    if image is None:
        raise UnreadableImage(key, f"not an image that can be decoded ({len(data)} bytes, starts {data[:4]!r})")
    if transparent:
        image = cv2.cvtColor(_over_black(image), cv2.COLOR_BGR2RGB)
    check_size(image, key, size)
    return image


def check_size(image: np.ndarray, key: str, size: tuple[int, int] | None) -> None:
    """Raises UnreadableImage unless `image` [h, w, ...] has `size` (height, width)."""
    if size is not None and image.shape[:2] != tuple(size):
        height, width = image.shape[:2]
        raise UnreadableImage(
            key, f"{width}x{height} pixels, not {size[1]}x{size[0]}: not aligned, run `facekd data align` first"
        )


def check_first_size(path: Path, encoded: Callable[[int], bytes], count: int, size: tuple[int, int] | None) -> None:
    """Refuses a set that is not aligned at once, rather than once an image, by its first 16 images.

    Args:
        path: of the set, for the message.
        encoded: number of an image -> its bytes; raises UnreadableImage.
        count: images in the set.
        size: (height, width) they must have; None admits any.

    Raises:
        FacekdError: not one of them that can be read has this size.
    """
    other = None
    for i in range(min(count, 16) if size is not None else 0):
        try:
            other = decode_image(encoded(i), "").shape[:2]
        except UnreadableImage:
            continue
        if other == size:
            return
    if other is not None and size is not None:
        raise FacekdError(
            f"{path} holds {other[1]}x{other[0]} images, not {size[1]}x{size[0]}: run `facekd data align` on the "
            "photographs first"
        )


def encode_jpeg(image: np.ndarray, quality: int = 95) -> bytes:
    """uint8 RGB [h, w, 3] -> JPEG bytes."""
    done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [int(cv2.IMWRITE_JPEG_QUALITY), int(quality)]
    )
    if not done:
        raise ValueError(f"cannot encode an image of shape {image.shape} as JPEG")
    return data.tobytes()


def encode_png(image: np.ndarray) -> bytes:
    """uint8 RGB [h, w, 3] -> PNG bytes."""
    done, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not done:
        raise ValueError(f"cannot encode an image of shape {image.shape} as PNG")
    return data.tobytes()


def _stated_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) as the file's header states it; None where it is no JPEG, PNG, BMP or WebP."""
    if data.startswith(b"\xff\xd8"):
        return _jpeg_size(data)
    if len(data) < 30:
        return None
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return struct.unpack(">II", data[16:24])
    if data.startswith(b"BM"):
        if data[14:18] == b"\x0c\0\0\0":  # the header of OS/2
            return struct.unpack("<HH", data[18:22])
        width, height = struct.unpack("<ii", data[18:26])
        return abs(width), abs(height)  # a height below 0 stands for rows from the top
    match data[:4] + data[8:16]:
        case b"RIFFWEBPVP8X":
            return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
        case b"RIFFWEBPVP8L":
            both = int.from_bytes(data[21:25], "little")
            return 1 + (both & 0x3FFF), 1 + (both >> 14 & 0x3FFF)
        case b"RIFFWEBPVP8 ":
            width, height = struct.unpack("<HH", data[26:30])
            return width & 0x3FFF, height & 0x3FFF
    return None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """From the first start of frame; what stands between two segments is skipped, as decoders do."""
    at = 2
    while marker := _JPEG_MARKER.search(data, at):
        at, kind = marker.end(), marker[1][0]
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            return (int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 3 : at + 5], "big"))
        if kind != 0x01 and not 0xD0 <= kind <= 0xD9:  # the markers that no length follows
            at += int.from_bytes(data[at : at + 2], "big")
    return None


def _cut_short(data: bytes) -> bool:
    """OpenCV decodes a truncated JPEG to an image with a grey rest, and says so on stderr only."""
    if data.startswith(b"\xff\xd8\xff"):
        return not data.endswith(b"\xff\xd9") and b"\xff\xd9" not in data[-64:] and not _ends_after_scan(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return b"IEND" not in data[-64:] and b"IEND" not in data
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return len(data) < int.from_bytes(data[4:8], "little") + 8
    if data.startswith(b"BM"):
        return len(data) < int.from_bytes(data[2:6], "little")
    return False


def _ends_after_scan(data: bytes) -> bool:
    """Whether a JPEG with something behind it (padding, a phone's film) ends: a thumbnail's end mark does not count."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        if data[at + 1] == 0xDA:
            return data.find(b"\xff\xd9", at) >= 0
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False


def _has_alpha(data: bytes) -> bool:
    """PNG of colour type 4 or 6, or WebP with alpha: read unchanged, because IMREAD_COLOR shows what alpha hides."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return len(data) > 25 and data[25] in (4, 6)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        if data[12:16] == b"VP8X":
            return len(data) > 20 and bool(data[20] & 0x10)
        return data[12:16] == b"VP8L" and len(data) > 24 and bool(data[24] & 0x10)
    return False


def _over_black(image: np.ndarray) -> np.ndarray:
    """uint8 or uint16 [h, w, c] with alpha last -> uint8 BGR [h, w, 3] over black."""
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if image.ndim == 2:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    if image.shape[2] == 2:
        image = np.dstack([image[..., :1]] * 3 + [image[..., 1:]])
    if image.shape[2] == 3:
        return image
    colour, alpha = image[..., :3].astype(np.uint16), image[..., 3:].astype(np.uint16)
    return ((colour * alpha + 127) // 255).astype(np.uint8)
