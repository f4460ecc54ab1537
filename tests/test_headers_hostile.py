"""Files made to hurt: no header costs more than linear time, or memory beyond the file's size."""

from __future__ import annotations

import struct
import subprocess
import sys
import textwrap
import time
import tracemalloc
import zlib

import numpy as np
import pytest

from mien._headers import exif_orientation, read_header
from mien.errors import ImageError
from mien.images import read_image

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
    header = read_header(ENDLESS[name])
    assert time.process_time() - start < 5
    assert header is None or header.truncated


def test_thirty_spaces_do_not_hang():
    """In a process of its own: the old expression held the interpreter for minutes."""
    code = "from mien._headers import read_header; read_header(b'P5' + b' ' * 30 + b'x')"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("digits", [10, 5000])
def test_long_numbers_are_no_header(digits):
    assert read_header(b"P5 " + b"1" * digits + b" 64 255\n") is None
    with pytest.raises(ImageError, match="not a picture"):
        read_image(b"P5 " + b"1" * digits + b" 64 255\n")


@pytest.mark.parametrize(
    "head",
    [b"P5\n#\r 3000 3000\n 64 64 255\n", b"P5 64#3000 \n64 255\n", b"P5 #" + b"c" * 70_000],
)
def test_pnm_sizes_are_the_decoders(head):
    """OpenCV ends a comment at either end of line and swallows the byte behind a number."""
    header = read_header(head + bytes(64 * 64))
    assert header is None or (header.width, header.height) == (3000, 3000)


def test_pnm_comments_are_still_read():
    picture = np.arange(64 * 64, dtype=np.uint32).astype(np.uint8).reshape(64, 64)
    data = b"P5 # one\n# two\r\n 64\n#three\n\t64 255\n" + picture.tobytes()
    assert np.array_equal(read_image(data)[..., 0], picture)


def jpeg_with_exif(block: bytes) -> bytes:
    segment = b"Exif\0\0" + block
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 11, 8, 64, 64, 1) + b"\1\x11\0"
    exif = b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment
    return b"\xff\xd8" + exif + frame + b"\xff\xda\0\x08\1\1\0\0\x3f\0\xff\xd9"


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_values_are_not_read_but_the_orientation(order):
    entries = [(40_000 + i, BYTE, 60_000, 8) for i in range(400)]
    entries += [(30_000 + i, LONG, 15_000, 8) for i in range(400)]
    magic = b"II*\0" if order == "<" else b"MM\0*"
    block = magic + struct.pack(order + "I", 8)
    block += directory([*entries, (274, SHORT, 1, 6)], 8, order)
    data = jpeg_with_exif(block + bytes(65_000 - len(block)))
    tracemalloc.start()
    header = read_header(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert header is not None
    assert header.orientation == 6
    assert peak < MEGABYTE


@pytest.mark.parametrize(
    "entry", [(274, SHORT, 2, 6), (274, 7, 1, 6), (274, SHORT, 1, 9), (274, SHORT, 0, 6)]
)
def test_odd_orientations_count_as_none(entry):
    assert exif_orientation(b"II*\0\x08\0\0\0" + directory([entry], 8)) == 1


def test_exif_orientation_of_no_block():
    assert exif_orientation(b"") == exif_orientation(b"II*\0\xff\xff\0\0") == 1


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
def test_a_repeated_tag_is_damage(change):
    """libtiff takes the first of them: 64×64 was checked and 1500×1500 decoded."""
    extra = [change, change] if change[0] == 700 else [change]
    with pytest.raises(ImageError, match="truncated or damaged TIFF"):
        read_image(tiff(*extra), max_pixels=10_000)


@pytest.mark.parametrize("tag", [256, 257, 322, 323])
@pytest.mark.parametrize(
    "entry", [(BYTE, 1, 64), (LONG, 2, bytes(8)), (SLONG, 1, 64), (SHORT, 2, 64)]
)
def test_sizes_are_one_short_or_long(tag, entry):
    kind, count, value = entry
    data = tiff((tag, kind, count, value), drop=(tag,))
    with pytest.raises(ImageError, match="truncated or damaged TIFF"):
        read_image(data)


def test_tiles_count_against_the_limit():
    with pytest.raises(ImageError, match=r"declares 4,096×4,096 pixels; .* at most 1 million"):
        read_image(tiled(64, 4096), max_pixels=1_000_000)
    assert read_image(tiled(64, 256), max_pixels=1_000_000).shape == (64, 64, 3)
    with pytest.raises(ImageError, match="4×4 pixels: too small"):
        read_image(tiled(4, 256))


@pytest.mark.parametrize("rows", [64, 1 << 20, 0xFFFFFFFF])
def test_rows_beyond_the_picture_cost_nothing(rows):
    """Writers give "all in one strip" as any large number: libtiff stops at the picture's end."""
    assert read_image(tiff((278, LONG, 1, rows), drop=(278,))).shape == (64, 64, 3)


def test_tags_that_share_their_bytes_are_damage():
    """libtiff reads the values of every tag: 19 seconds and 1 GB for this megabyte."""
    shared = [(40_000 + i, BYTE, 1_000_000, 8) for i in range(1000)]
    with pytest.raises(ImageError, match="truncated or damaged TIFF"):
        read_image(tiff(*shared, data=bytes(1_000_100)))
    many = [(5000 + i, BYTE, 1, 0) for i in range(5000)]
    with pytest.raises(ImageError, match="truncated or damaged TIFF"):
        read_image(tiff(*many))


@pytest.mark.parametrize("bits", [32, 64])
def test_more_than_sixteen_bits_are_refused_undecoded(bits):
    data = tiff(
        (258, SHORT, 4, struct.pack("<4H", *[bits] * 4)),
        (262, SHORT, 1, 2),
        (277, SHORT, 1, 4),
        data=bytes(64 * 64 * bits // 2),
        drop=(258, 262, 277),
    )
    with pytest.raises(ImageError, match=f"{bits}-bit pixels; mien reads 8 and 16 bits"):
        read_image(data)


def test_bigtiff_and_cut_directories():
    with pytest.raises(ImageError, match="not a picture"):
        read_image(b"II+\0\x08\0\0\0" + bytes(100))
    whole = tiff()
    for length in (5, 8, 4104, 4105, 4110, len(whole) - 10):
        with pytest.raises(ImageError, match="truncated or damaged TIFF"):
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


def test_hidden_frame_headers_are_damage():
    """libjpeg looks for markers behind FF 00 and takes the first chunk of a PNG for its header."""
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 11, 8, 64, 64, 1) + b"\1\x11\0"
    assert read_header(b"\xff\xd8\xff\0\0\x0f" + frame + frame + b"\xff\xda\0\2\xff\xd9") is None
    twice = read_header(b"\xff\xd8" + frame + frame + b"\xff\xda\0\2\xff\xd9")
    assert twice is not None
    assert twice.truncated
    first = read_header(PNG + chunk(b"tEXt", bytes(13)) + IHDR + chunk(b"IEND"))
    assert first is not None
    assert first.truncated


def test_random_damage_gives_one_sentence():
    """Whatever a byte is changed to: an answer or an ImageError."""
    rng = np.random.default_rng(0)
    for seed in (tiff(), tiled(64, 64), jpeg_with_exif(b"II*\0\x08\0\0\0" + directory([], 8))):
        for _ in range(300):
            data = bytearray(seed)
            for at in rng.integers(max(0, len(data) - 140), len(data), 3):
                data[at] = rng.integers(256)
            read_header(bytes(data))


def test_the_decoder_stays_within_what_was_checked():
    """The tile and the shared tags, measured in a process that does nothing else."""
    code = """
        import resource, sys
        sys.path.insert(0, "tests")
        from test_headers_hostile import BYTE, tiff, tiled
        from mien.errors import ImageError
        from mien.images import read_image

        bad = [
            tiled(64, 4096),
            tiff(*[(40_000 + i, BYTE, 100_000, 8) for i in range(800)], data=bytes(100_100)),
        ]
        read_image(tiff())
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for data in bad:
            try:
                read_image(data, max_pixels=1_000_000)
            except ImageError:
                pass
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 20
