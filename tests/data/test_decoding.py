"""Every kind of image file: converted right (against Pillow where it is there) or refused with one line."""

import io
import struct
import zlib
from collections.abc import Callable

import cv2
import numpy as np
import pytest

from facekd.data import decoding
from facekd.data.decoding import decode_image, encode_jpeg, encode_png
from facekd.data.source import UnreadableImage

Image = pytest.importorskip("PIL.Image")


def smooth(side: int = 112) -> np.ndarray:
    """uint8 RGB without fine detail, so that JPEG changes little."""
    y, x = np.mgrid[:side, :side]
    return np.stack([x * 2, y * 2, 255 - x - y], 2).astype(np.uint8)


def saved(image: "Image.Image", form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(("form", "options"), [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True})])
def test_lossless_formats_come_back_exactly(form: str, options: dict[str, object]) -> None:
    np.testing.assert_array_equal(decode_image(saved(Image.fromarray(smooth()), form, **options), "a"), smooth())
    np.testing.assert_array_equal(decode_image(encode_png(smooth()), "a"), smooth())


def test_jpeg_agrees_with_pillow() -> None:
    data = encode_jpeg(smooth(), 95)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(decode_image(data, "a").astype(int) - expected).max() <= 3


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA"])
def test_one_channel_is_repeated(mode: str) -> None:
    image = Image.fromarray(smooth()).convert("L").convert(mode)
    decoded = decode_image(saved(image, "PNG"), "a")
    np.testing.assert_array_equal(decoded, np.asarray(image.convert("RGB")))


def test_sixteen_bits_are_reduced_to_eight() -> None:
    deep = smooth().astype(np.uint16) * 257
    data = cv2.imencode(".png", deep[..., ::-1])[1].tobytes()
    np.testing.assert_array_equal(decode_image(data, "a"), smooth())
    grey = cv2.imencode(".png", deep[..., 0])[1].tobytes()
    np.testing.assert_array_equal(decode_image(grey, "a"), np.repeat(smooth()[..., :1], 3, 2))


def test_cmyk_is_converted() -> None:
    data = saved(Image.fromarray(smooth()).convert("CMYK"), "JPEG", quality=98)
    assert np.abs(decode_image(data, "a").astype(int) - smooth()).mean() < 4


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_transparency_is_composited_over_black(form: str) -> None:
    alpha = np.zeros((112, 112), np.uint8)
    alpha[:56] = 255
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    decoded = decode_image(saved(Image.fromarray(np.dstack([smooth(), alpha])), form, **options), "a")
    np.testing.assert_array_equal(decoded[:56], smooth()[:56])
    assert decoded[56:].max() == 0


def test_exif_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise
    data = saved(Image.fromarray(smooth()), "JPEG", quality=98, exif=exif)
    assert np.abs(decode_image(data, "a").astype(int) - np.rot90(smooth(), -1)).mean() < 4


def test_what_follows_the_end_of_an_image_does_no_harm() -> None:
    """Phones store a film behind the photograph."""
    for data in (encode_jpeg(smooth()), encode_png(smooth())):
        np.testing.assert_array_equal(decode_image(data + b"film" * 5000, "a"), decode_image(data, "a"))


def _with_thumbnail() -> bytes:
    """A JPEG whose EXIF holds another whole JPEG, cut short."""
    data, small = encode_jpeg(smooth()), encode_jpeg(smooth(16))
    segment = b"\xff\xe1" + (len(small) + 8).to_bytes(2, "big") + b"Exif\0\0" + small
    return (data[:2] + segment + data[2:])[: len(segment) + len(data) // 2]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "0 bytes"),
        (b"not an image at all", "not an image in JPEG"),
        (encode_jpeg(smooth())[:-300], "cut short"),
        (_with_thumbnail(), "cut short"),
        (encode_png(smooth())[:-40], "cut short"),
        (saved(Image.fromarray(smooth()), "BMP")[:-40], "cut short"),
        (saved(Image.fromarray(smooth()), "WEBP")[:-40], "cut short"),
        (b"\xff\xd8\xff\xd9", "not an image in JPEG"),
        (b"\xff\xd8" + b"\xff" * 10_000 + b"\xff\xd9", "not an image in JPEG"),
        (saved(Image.fromarray(smooth()), "TIFF"), "not an image in JPEG, PNG, BMP, WebP, HEIC or AVIF"),
        (encode_png(smooth(111)), "111x111 pixels, not 112x112: not aligned, run `facekd data align`"),
    ],
)
def test_the_rest_is_refused_in_one_line(data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableImage, match=reason) as caught:
        decode_image(data, "who/1.jpg", (112, 112))
    assert str(caught.value).startswith("image who/1.jpg: ") and "\n" not in str(caught.value)


def put(data: bytes, at: int, claim: bytes) -> bytes:
    return data[:at] + claim + data[at + len(claim) :]


def put_in_png(data: bytes, claim: bytes) -> bytes:
    """Behind the length, the name and the sides of the first chunk stands its checksum."""
    data = put(data, 16, claim)
    return put(data, 29, struct.pack(">I", zlib.crc32(data[12:29])))


def put_in_frame(data: bytes, marker: bytes, before: bytes = b"") -> bytes:
    """A JPEG whose start of frame claims 60,000 x 40,000, with `before` in front of its marker."""
    at = data.index(marker)
    return data[:at] + before + put(data[at:], 5, struct.pack(">HH", 40_000, 60_000))


@pytest.mark.parametrize(
    ("form", "options", "forge", "says"),
    [
        ("PNG", {}, lambda d: put_in_png(d, struct.pack(">II", 30_000, 20_000)), "30000x20000"),
        ("BMP", {}, lambda d: put(d, 18, struct.pack("<ii", 30_000, 20_000)), "30000x20000"),
        ("BMP", {}, lambda d: put(d, 18, struct.pack("<ii", 30_000, -20_000)), "30000x20000"),
        ("WEBP", {}, lambda d: put(d, 26, struct.pack("<HH", 16383, 16382)), "16383x16382"),
        ("WEBP", {"lossless": True}, lambda d: put(d, 21, struct.pack("<I", 16382 << 14 | 16381)), "16382x16383"),
        ("WEBP", {"exif": b"Exif\0\0none"}, lambda d: put(d, 24, b"\xff\x3f\0\xff\x1f\0"), "16384x8192"),
        ("JPEG", {}, lambda d: put_in_frame(d, b"\xff\xc0"), "60000x40000"),
        ("JPEG", {"progressive": True}, lambda d: put_in_frame(d, b"\xff\xc2"), "60000x40000"),
        ("JPEG", {}, lambda d: put_in_frame(d, b"\xff\xc0", b"\xff\xff"), "60000x40000"),
        ("JPEG", {}, lambda d: put_in_frame(d, b"\xff\xc0", b"stray"), "60000x40000"),
    ],
)
def test_a_header_that_claims_gigabytes_is_refused_before_decoding(
    form: str, options: dict[str, object], forge: Callable[[bytes], bytes], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = forge(saved(Image.fromarray(smooth()), form, **options))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    if form != "WEBP":  # which Pillow looks into further than the header
        assert Image.open(io.BytesIO(data)).size == tuple(map(int, says.split("x")))
    monkeypatch.setattr(cv2, "imdecode", lambda *arguments: pytest.fail("decoded"))
    with pytest.raises(UnreadableImage, match=f"{says} pixels: larger than"):
        decode_image(data, "a")


def test_the_limit_itself_is_read_and_transparency_takes_a_quarter_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    opaque, clear = encode_png(smooth()), saved(Image.fromarray(smooth()).convert("RGBA"), "PNG")
    for data, limit in ((opaque, 112 * 112), (clear, 4 * 112 * 112)):
        monkeypatch.setattr(decoding, "MAX_PIXELS", limit)
        assert decode_image(data, "a").shape == (112, 112, 3)
        monkeypatch.setattr(decoding, "MAX_PIXELS", limit - 4)
        with pytest.raises(UnreadableImage, match="larger than"):
            decode_image(data, "a")
