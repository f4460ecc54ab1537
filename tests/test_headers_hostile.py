"""Files made to hurt: none costs more time or memory than an image of its size needs."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import textwrap
import time
import tracemalloc
import zlib
from contextlib import suppress

import numpy as np
import pytest
from helpers_memory import needs_proc
from PIL import Image

from mien.errors import ImageError
from mien.images import read_image
from mien.images.orientation import exif_tag, orientation_of

BYTE, SHORT, LONG, SLONG = 1, 3, 4, 9


def directory(entries, start: int, order: str = "<") -> bytes:
    """A TIFF directory for offset ``start``: (tag, kind, count, inline value or bytes)."""
    tail, out = b"", struct.pack(order + "H", len(entries))
    behind = start + 2 + 12 * len(entries) + 4
    for tag, kind, count, value in entries:
        out += struct.pack(order + "HHI", tag, kind, count)
        if isinstance(value, bytes):
            out += struct.pack(order + "I", behind + len(tail))
            tail += value
        elif kind == SHORT:
            out += struct.pack(order + "HH", value, 0)
        else:
            out += struct.pack(order + "I", value)
    return out + bytes(4) + tail


def tiff(*changes, width=64, height=64, data=b"", drop=(), order="<") -> bytes:
    """A grey 8-bit TIFF with one strip, its tags changed, repeated or dropped."""
    data = data or bytes(width * height)
    entries = [
        (256, LONG, 1, width),
        (257, LONG, 1, height),
        (258, SHORT, 1, 8),
        (259, SHORT, 1, 1),
        (262, SHORT, 1, 1),
        (273, LONG, 1, 8),
        (277, SHORT, 1, 1),
        (278, LONG, 1, height),
        (279, LONG, 1, len(data)),
    ]
    entries = [e for e in entries if e[0] not in drop] + list(changes)
    magic = b"II*\0" if order == "<" else b"MM\0*"
    head = magic + struct.pack(order + "I", 8 + len(data)) + data
    return head + directory(entries, 8 + len(data), order)


def tiled(side: int, tile: int) -> bytes:
    data = zlib.compress(bytes(tile * tile))
    return tiff(
        (259, SHORT, 1, 8),
        (322, LONG, 1, tile),
        (323, LONG, 1, tile),
        (324, LONG, 1, 8),
        (325, LONG, 1, len(data)),
        width=side,
        height=side,
        data=data,
        drop=(259, 273, 278, 279),
    )


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


PNG = b"\x89PNG\r\n\x1a\n"
IHDR = chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0))
MEGABYTE = 1 << 20

ENDLESS = {
    "pnm spaces": b"P5" + b" " * 4 * MEGABYTE + b"x",
    "pnm comments": b"P5 " + b"#\n" * 2 * MEGABYTE + b"x",
    "pnm open comment": b"P5 " + b"#" * 4 * MEGABYTE,
    "jpeg fill": b"\xff\xd8" + b"\xff" * 4 * MEGABYTE,
    "jpeg restart": b"\xff\xd8" + b"\xff\xd0" * MEGABYTE,
    "jpeg segments": b"\xff\xd8" + b"\xff\xe0\0\2" * MEGABYTE,
    "png chunks": PNG + IHDR + chunk(b"tEXt") * 300_000,
    "png exif": PNG + IHDR + chunk(b"eXIf", b"II*\0\x08\0\0\0\1\0") * 200_000,
    "webp chunks": b"RIFF" + b"\0" * 4 + b"WEBPVP8X\x0a" + bytes(13) + b"EXIF\0\0\0\0" * 500_000,
}


@pytest.mark.parametrize("name", ENDLESS)
def test_headers_take_linear_time(name):
    start = time.process_time()
    with pytest.raises(ImageError):
        read_image(ENDLESS[name])
    assert time.process_time() - start < 5


@pytest.mark.parametrize("digits", [10, 5000])
def test_long_numbers_are_no_size(digits):
    with pytest.raises(ImageError):
        read_image(b"P5 " + b"1" * digits + b" 64 255\n")


@pytest.mark.parametrize(
    "head",
    [b"P5\n#\r 3000 3000\n 64 64 255\n", b"P5 64#3000 \n64 255\n", b"P5 #" + b"c" * 70_000],
)
def test_the_size_that_is_checked_is_decoded(head):
    """Readers differ in where a comment ends, and in the byte behind a number."""
    data = head + bytes(64 * 64)
    with suppress(ImageError):
        assert read_image(data, max_pixels=5000).size <= 3 * 5000


def test_pnm_comments_are_still_read():
    image = np.arange(64 * 64, dtype=np.uint32).astype(np.uint8).reshape(64, 64)
    data = b"P5 # one\n# two\r\n 64\n#three\n\t64 255\n" + image.tobytes()
    assert np.array_equal(read_image(data)[..., 0], image)


def jpeg_with_exif(*blocks: bytes) -> bytes:
    """64 pixels wide, 32 high."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 32)).save(buffer, "JPEG")
    parts = [buffer.getvalue()[:2]]
    for block in blocks:
        segment = b"Exif\0\0" + block
        parts += [b"\xff\xe1", struct.pack(">H", len(segment) + 2), segment]
    return b"".join([*parts, buffer.getvalue()[20:]])  # without JFIF's resolution


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_values_are_not_read_but_the_orientation(order):
    entries = [(40_000 + i, BYTE, 60_000, 8) for i in range(400)]
    entries += [(30_000 + i, LONG, 15_000, 8) for i in range(400)]
    magic = b"II*\0" if order == "<" else b"MM\0*"
    block = magic + struct.pack(order + "I", 8)
    block += directory([*entries, (274, SHORT, 1, 6)], 8, order)
    data = jpeg_with_exif(block + bytes(65_000 - len(block)), *[bytes(65_000)] * 20)
    read_image(data)
    tracemalloc.start()
    image = read_image(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert image.shape == (64, 32, 3)
    assert peak < 8 * MEGABYTE


def test_broken_exif_is_no_reason_to_refuse():
    for block in (b"", b"II*\0", b"MM\0*\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff", bytes(99)):
        assert read_image(jpeg_with_exif(block)).shape == (32, 64, 3)


@pytest.mark.parametrize(
    "entry", [(274, SHORT, 2, 6), (274, 7, 1, 6), (274, SHORT, 1, 9), (274, SHORT, 0, 6)]
)
def test_odd_orientations_count_as_none(entry):
    image = Image.new("RGB", (64, 32))
    image.info["exif"] = b"II*\0\x08\0\0\0" + directory([entry], 8)
    image.info["xmp"] = b'<x tiff:Orientation="6"/>'  # asked where EXIF says nothing
    assert orientation_of(image) == 1


def test_exif_orientation_of_no_block():
    assert exif_tag(b"") is exif_tag(b"II*\0\xff\xff\0\0") is None


@pytest.mark.parametrize("order", ["<", ">"])
def test_an_orientation_of_four_bytes(order):
    """Pillow and browsers read it, mien did not."""
    magic = b"II*\0" if order == "<" else b"MM\0*"
    block = magic + struct.pack(order + "I", 8) + directory([(274, LONG, 1, 6)], 8, order)
    assert read_image(jpeg_with_exif(block)).shape == (64, 32, 3)


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_made_up_tiff_is_read(order):
    assert read_image(tiff(order=order)).shape == (64, 64, 3)


@pytest.mark.parametrize(
    "change",
    [
        (256, LONG, 1, 1500),
        (257, SHORT, 1, 1500),
        (257, BYTE, 1, 5),
        (273, LONG, 1, 8),
        (700, BYTE, 1, 5),
    ],
)
def test_a_repeated_tag_shows_no_other_image(change):
    """Readers take the first or the last: 64×64 was checked and 1500×1500 decoded."""
    extra = [change, change] if change[0] == 700 else [change]
    small_or_refused(tiff(*extra))


def small_or_refused(data: bytes) -> None:
    with suppress(ImageError):
        assert read_image(data, max_pixels=10_000).shape == (64, 64, 3)


@pytest.mark.parametrize("tag", [256, 257, 322, 323])
@pytest.mark.parametrize(
    "entry", [(BYTE, 1, 64), (LONG, 2, bytes(8)), (SLONG, 1, 64), (SHORT, 2, 64)]
)
def test_sizes_of_odd_types(tag, entry):
    kind, count, value = entry
    small_or_refused(tiff((tag, kind, count, value), drop=(tag,)))


def test_tiles_count_against_the_limit():
    with pytest.raises(ImageError, match=r"declares 4,096×4,096 pixels; .* at most 1 million"):
        read_image(tiled(64, 4096), max_pixels=1_000_000)
    assert read_image(tiled(64, 256), max_pixels=1_000_000).shape == (64, 64, 3)
    with pytest.raises(ImageError, match="4×4 pixels: too small"):
        read_image(tiled(4, 256))


@pytest.mark.parametrize("rows", [64, 1 << 20, 0xFFFFFFFF])
def test_rows_beyond_the_image_cost_nothing(rows):
    """Writers give "all in one strip" as any large number: libtiff stops at the image's end."""
    assert read_image(tiff((278, LONG, 1, rows), drop=(278,))).shape == (64, 64, 3)


def test_tags_that_share_their_bytes_cost_nothing():
    """libtiff reads the values of every tag: 19 seconds and 1 GB for this megabyte."""
    shared = [(40_000 + i, BYTE, 1_000_000, 8) for i in range(1000)]
    small_or_refused(tiff(*shared, data=bytes(1_000_100)))
    small_or_refused(tiff(*[(5000 + i, BYTE, 1, 0) for i in range(5000)]))


@pytest.mark.parametrize("bits", [32, 64])
def test_wide_colours_are_refused(bits):
    data = tiff(
        (258, SHORT, 4, struct.pack("<4H", *[bits] * 4)),
        (262, SHORT, 1, 2),
        (277, SHORT, 1, 4),
        data=bytes(64 * 64 * bits // 2),
        drop=(258, 262, 277),
    )
    with pytest.raises(ImageError, match="of a kind that mien does not read"):
        read_image(data)


def test_cut_directories():
    whole = tiff()
    for length in (5, 8, 4104, 4105, 4110, 4140):
        with pytest.raises(ImageError, match="TIFF"):
            read_image(whole[:length])


def test_strips_may_be_many():
    n = 2000
    data = tiff(
        (273, LONG, n, struct.pack(f"<{n}I", *range(8, 8 + 16 * n, 16))),
        (278, LONG, 1, 1),
        (279, SHORT, n, struct.pack(f"<{n}H", *[16] * n)),
        width=16,
        height=n,
        drop=(273, 278, 279),
    )
    assert read_image(data).shape == (n, 16, 3)


def test_hidden_frame_headers_show_no_other_image():
    """A second frame header, or a PNG whose first chunk is not IHDR."""
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 11, 8, 3000, 3000, 1) + b"\1\x11\0"
    whole = jpeg_with_exif(b"")
    small_jpegs = (whole[:2] + frame + whole[2:], whole.replace(b"\xff\xda", frame + b"\xff\xda"))
    for data in (*small_jpegs, PNG + chunk(b"tEXt", bytes(13)) + IHDR + chunk(b"IEND")):
        with pytest.raises(ImageError):
            read_image(data, max_pixels=10_000)


def seeds() -> list[bytes]:
    """A small image of every kind."""
    rgb = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))
    out = [tiff(), tiled(64, 64), jpeg_with_exif(b"II*\0\x08\0\0\0" + directory([], 8))]
    for form in ("PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "ICO", "JPEG2000", "AVIF"):
        buffer = io.BytesIO()
        (rgb.resize((32, 32)) if form == "ICO" else rgb).save(buffer, form)
        out.append(buffer.getvalue())
    return out


def test_random_damage_gives_one_sentence():
    """Whatever a byte is changed to: an answer or an ImageError."""
    rng = np.random.default_rng(0)
    for seed in seeds():
        assert read_image(seed).ndim == 3
        for _ in range(100):
            data = bytearray(seed)
            for at in (*rng.integers(0, min(len(data), 140), 2), *rng.integers(0, len(data), 2)):
                data[at] = rng.integers(256)
            with suppress(ImageError):
                read_image(bytes(data), max_pixels=1_000_000)


@needs_proc
def test_the_decoder_stays_within_what_was_checked():
    """The tile and the shared tags, measured in a process that does nothing else."""
    code = """
        import sys
        sys.path.insert(0, "tests")
        from helpers_memory import growth
        from test_headers_hostile import BYTE, tiff, tiled
        from mien.errors import ImageError
        from mien.images import read_image

        bad = [
            tiled(64, 4096),
            tiff(*[(40_000 + i, BYTE, 100_000, 8) for i in range(800)], data=bytes(100_100)),
        ]
        read_image(tiff())
        def refused():
            for data in bad:
                try:
                    read_image(data, max_pixels=1_000_000)
                except ImageError:
                    pass

        print(growth(refused))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 20
