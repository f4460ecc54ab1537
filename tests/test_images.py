"""Reading images: every form comes out upright and BGR; every bad file gives one sentence."""

from __future__ import annotations

import io
import os
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from helpers_memory import growth, needs_proc

from mien.errors import ImageError
from mien.images import as_bgr, read_image
from mien.images.pixels import STRIPE_PIXELS

Image = pytest.importorskip("PIL.Image")
ImageFile = pytest.importorskip("PIL.ImageFile")
ImageOps = pytest.importorskip("PIL.ImageOps")


@pytest.fixture(scope="module")
def image():
    """A smooth, asymmetric colour image, RGB (40, 60, 3)."""
    y, x = np.mgrid[:40, :60]
    rgb = np.stack([x * 4, y * 6, (x + y) * 2], axis=2).astype(np.uint8)
    return Image.fromarray(rgb)


def encode(image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def bgr(image) -> np.ndarray:
    return np.asarray(image.convert("RGB"))[:, :, ::-1]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_forms_give_the_exact_pixels(image, form):
    got = read_image(encode(image, form))
    assert got.flags.c_contiguous
    assert np.array_equal(got, bgr(image))


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "GIF"])
def test_lossy_forms_are_near(image, form):
    got = read_image(encode(image, form))
    assert np.abs(got.astype(int) - bgr(image)).mean() < 12


def test_cmyk_jpeg_has_the_right_colours(image):
    data = encode(image.convert("CMYK"), "JPEG", quality=95)
    assert np.abs(read_image(data).astype(int) - bgr(image)).mean() < 4


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_become_eight(image, form):
    grey = np.asarray(image.convert("L"))
    data = encode(Image.fromarray(grey.astype(np.uint16) * 257), form)
    assert np.array_equal(read_image(data), np.repeat(grey[..., None], 3, 2))


def test_transparency_is_laid_on_white(image):
    rgba = image.convert("RGBA")
    alpha = np.full((40, 60), 255, np.uint8)
    alpha[:10] = 0
    rgba.putalpha(Image.fromarray(alpha))
    want = bgr(image).copy()
    want[:10] = 255
    assert np.array_equal(read_image(encode(rgba, "PNG")), want)
    assert np.array_equal(read_image(encode(rgba, "WEBP", lossless=True)), want)
    grey = read_image(encode(rgba.convert("LA"), "PNG"))
    assert (grey[:10] == 255).all()
    assert np.array_equal(grey[10:, :, 0], np.asarray(image.convert("L"))[10:])


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(image, form, orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    options = {"lossless": True} if form == "WEBP" else {}
    data = encode(image, form, exif=exif, **options)
    with Image.open(io.BytesIO(data)) as stored:
        want = bgr(ImageOps.exif_transpose(stored))
    got = read_image(data)
    assert got.shape == want.shape
    assert np.abs(got.astype(int) - want).mean() < 1


@pytest.mark.parametrize(
    "form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF"]
)
@pytest.mark.parametrize("part", [0.1, 0.5, 0.97])
@pytest.mark.parametrize("lenient", [False, True])
def test_truncated_files_are_refused(image, form, part, lenient, tmp_path, monkeypatch):
    """Also where a notebook has told Pillow to make up what is missing."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)
    data = encode(image, form)
    assert read_image(data).shape == (40, 60, 3)
    path = tmp_path / "half"
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(ImageError, match="half is a truncated or damaged"):
        read_image(path)


#: Every way in which a JPEG's data are ordered.
WAYS = {
    "baseline": {},
    "full colour": {"subsampling": 0},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 1},
    "restarted rows": {"restart_marker_rows": 1, "progressive": True},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_without_its_last_marker_is_read(image, way, mode):
    """It was refused as truncated, although every pixel is there."""
    data = encode(image.convert(mode), "JPEG", quality=95, **WAYS[way])
    whole = read_image(data)
    for short in (data[:-1], data[:-2], data[:-2] + bytes(50)):
        assert np.array_equal(read_image(short), whole)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_that_lacks_any_pixel_is_refused(image, way, mode):
    """At whatever byte it breaks off, a marker put behind it does not make it whole."""
    data = encode(image.convert(mode), "JPEG", quality=50, **WAYS[way])
    scan, end = data.find(b"\xff\xda\0"), len(data) - 2
    markers = [at for at in range(scan, end) if data[at] == 0xFF]
    ends = {*range(end - 30, end), *range(scan, end, 13), *markers, *(at + 1 for at in markers)}
    for at in sorted(ends - {end}):
        with pytest.raises(ImageError, match="truncated or damaged JPEG"):
            read_image(data[:at])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("marker", [b"", b"\xff\xd9"])
def test_a_jpeg_that_goes_on_in_zeros_is_refused(way, marker):
    """What broken downloads and recovered cards leave: zeros decode to blocks, enough of them for
    the whole image where it is grainy, and it had no face."""
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3)).astype(np.uint8)
    data = encode(Image.fromarray(noise), "JPEG", quality=95, **WAYS[way])
    scan = data.find(b"\xff\xda\0") + 20
    for share in (0.0, 0.1, 0.25, 0.5, 0.9):
        at = scan + int((len(data) - scan) * share)
        with pytest.raises(ImageError, match="truncated or damaged JPEG"):
            read_image(data[:at] + bytes(len(data) - at) + marker)
    whole = read_image(data)
    for zeros in (5, 16, 5000):
        assert np.array_equal(read_image(data[:-2] + bytes(zeros) + marker), whole)
        assert np.array_equal(read_image(data + bytes(zeros)), whole)


def test_zeros_that_are_pixels_are_read():
    """An optimised table may give an even grey the code 0."""
    for seed in range(50):
        pixels = np.random.default_rng(seed).integers(0, 256, (704, 704)).astype(np.uint8)
        pixels[16:] = 99
        data = encode(Image.fromarray(pixels), "JPEG", quality=85, optimize=True)
        if (zeros := len(data[:-2]) - len(data[:-2].rstrip(b"\0"))) > 64:
            break
    assert zeros > 64
    image = read_image(data)
    assert np.array_equal(image, bgr(Image.open(io.BytesIO(data))))
    assert np.array_equal(read_image(data[:-2]), image)
    for count in (zeros // 2, zeros - 9, zeros + 20):
        with pytest.raises(ImageError, match="truncated or damaged JPEG"):
            read_image(data[: -2 - zeros] + bytes(count) + data[-2:])


def test_a_flipped_byte_in_a_png_is_refused(image):
    data = bytearray(encode(image, "PNG"))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(ImageError, match="truncated or damaged PNG"):
        read_image(bytes(data))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "is empty"),
        (b"hello, I am a text file", "not an image that mien reads"),
        (png(50_000, 50_000), "declares 50,000×50,000 pixels"),
        (png(0, 0), "damaged PNG file"),
        (png(1, 1), "1×1 pixels: too small"),
        (png(3000, 1), "3000×1 pixels: too small"),
        (png(500, 500), "damaged PNG file"),
        (b"\xff\xd8\xff", "truncated or damaged JPEG"),
    ],
)
def test_bad_bytes(data, sentence):
    with pytest.raises(ImageError, match=sentence) as caught:
        read_image(data, name="x.bin")
    assert str(caught.value).startswith("x.bin ")
    assert "\n" not in str(caught.value)


def test_bad_paths(tmp_path):
    with pytest.raises(ImageError, match="does not exist"):
        read_image(tmp_path / "none.png")
    with pytest.raises(ImageError, match="is a folder"):
        read_image(tmp_path)
    with pytest.raises(ImageError, match="cannot be read"):
        read_image("a\0b")
    with pytest.raises(ImageError, match="binary mode"):
        read_image(io.StringIO("text"))  # type: ignore[arg-type]
    with pytest.raises(ImageError, match="Cannot read an image from int"):
        read_image(3)  # type: ignore[arg-type]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads anything")
def test_unreadable_file(tmp_path):
    path = tmp_path / "secret.png"
    path.write_bytes(png(50, 50))
    path.chmod(0)
    with pytest.raises(ImageError, match="cannot be read: Permission denied"):
        read_image(path)


def test_paths_and_streams_agree(image, tmp_path):
    path = tmp_path / "ü b.png"
    path.write_bytes(encode(image, "PNG"))
    with path.open("rb") as stream:
        assert np.array_equal(read_image(stream), read_image(str(path)))


def test_arrays_say_their_colour_order(image):
    rgb = np.asarray(image)
    assert np.array_equal(as_bgr(rgb, "rgb"), bgr(image))
    assert np.array_equal(as_bgr(np.ascontiguousarray(bgr(image)), "bgr"), bgr(image))
    grey = np.asarray(image.convert("L"))
    assert np.array_equal(as_bgr(grey, None), np.repeat(grey[..., None], 3, 2))
    clear = np.dstack([rgb, np.zeros(grey.shape, np.uint8)])
    clear[0, 0] = 255  # or alpha counts as unset
    assert (as_bgr(clear, "rgb") == 255).all()


@pytest.mark.parametrize("shape", [(256, 256), (1025, 513), (9, STRIPE_PIXELS // 4), (1500, 9)])
def test_stripes_of_transparency_are_the_whole_formula(shape):
    rgba = np.random.default_rng(0).integers(0, 256, (*shape, 4), dtype=np.uint8)
    if shape == (256, 256):  # every alpha with every value
        rgba[...] = np.arange(256)[:, None]
        rgba[..., 3] = np.arange(256)
    for image in (rgba, rgba[::-1, ::-1]):
        alpha, color = image[..., 3:].astype(int), image[..., :3].astype(int)
        want = (color * alpha + 255 * (255 - alpha) + 127) // 255
        assert np.array_equal(as_bgr(image, "bgr"), want)


def test_transparency_takes_little_memory():
    """16-bit copies of the whole image took 24 bytes a pixel beside the result's three."""
    rgba = np.zeros((2000, 2000, 4), np.uint8)
    tracemalloc.start()
    result = as_bgr(rgba, "bgr")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - result.nbytes < 8 << 20


@pytest.mark.parametrize(
    ("array", "color", "sentence"),
    [
        (np.zeros((20, 20, 3), np.uint8), None, "say color='bgr'"),
        (np.zeros((20, 20, 3), np.uint8), "hsv", "Unknown color 'hsv'"),
        (np.zeros((20, 20, 3), np.float32), "bgr", "dtype float32"),
        (np.zeros((20, 20, 2), np.uint8), "bgr", "shape"),
        (np.zeros((0, 20), np.uint8), None, "20×0 pixels"),
        (np.zeros(20, np.uint8), None, "shape"),
    ],
)
def test_bad_arrays(array, color, sentence):
    with pytest.raises(ImageError, match=sentence):
        as_bgr(array, color)


def test_no_file_makes_opencv_print(image, tmp_path, capfd):
    for form in ("PNG", "JPEG", "TIFF", "WEBP", "BMP"):
        data = encode(image, form)
        with pytest.raises(ImageError):
            read_image(data[: len(data) // 2])
    assert capfd.readouterr().err == ""


@needs_proc
def test_size_is_read_without_decoding():
    """A declared 2.5 gigapixels must cost no memory."""

    def refused():
        with pytest.raises(ImageError):
            read_image(png(50_000, 50_000))

    assert growth(refused) < 50
