"""HEIC and AVIF, in which phones save photographs: read through Pillow, HEIC with pillow-heif (facekd[heif])."""

import io

import numpy as np

from facekd.common.errors import one_line
from facekd.common.file_kind import HEIC, FileKind
from facekd.data.source import UnreadableImage


def decode_heif(data: bytes, kind: FileKind, key: str, *, most_pixels: int) -> np.ndarray:
    """The first image of a HEIC or AVIF file as uint8 RGB [h, w, 3], upright, over black where it is transparent.

    Args:
        data: the file's bytes.
        kind: HEIC or AVIF.
        key: the image's name, for the error.
        most_pixels: an image that states more is not decoded.

    Raises:
        UnreadableImage: what reads it is not installed, or it is damaged or too large.
    """
    try:
        from PIL import Image, ImageOps

        if kind is HEIC:
            from pillow_heif import register_heif_opener

            register_heif_opener(thumbnails=False)
    except ImportError:
        raise UnreadableImage(key, "a HEIC is read with pillow-heif: pip install 'facekd[heif]'") from None
    try:
        with Image.open(io.BytesIO(data)) as opened:
            width, height = opened.size
            if width * height > most_pixels:
                raise UnreadableImage(key, f"{width}x{height} pixels: larger than any photograph that is read here")
            image = ImageOps.exif_transpose(opened).convert("RGBA")
    except UnreadableImage:
        raise
    except Exception as error:  # Pillow and its plugins raise a dozen classes
        raise UnreadableImage(key, f"{kind.name} that cannot be decoded ({one_line(error, limit=120)})") from None
    black = Image.new("RGBA", image.size, (0, 0, 0, 255))
    return np.asarray(Image.alpha_composite(black, image).convert("RGB"))
