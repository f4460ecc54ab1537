"""Whatever a user holds: every kind, mode and depth of image, and every way to hand it over."""

from __future__ import annotations

import base64
import errno
import io
import os
import struct
import sys
import tempfile
import threading
import time
import warnings
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile, ImageOps, PngImagePlugin

import mien
from mien.errors import ImageError, MienError, ModelError, VideoError
from mien.images import as_bgr, frames_of, read_frames, read_image
from mien.sources import find_images
from mien.video.reader import Video


def encode(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def rgb() -> np.ndarray:
    """Smooth and asymmetric, (48, 64, 3), full range."""
    y, x = np.mgrid[:48, :64]
    return np.stack([x * 4, y * 5, (x + y) * 2], axis=2).astype(np.uint8)


@pytest.fixture(scope="module")
def grey(rgb: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(rgb).convert("L"))


def near(got: np.ndarray, want: np.ndarray, most: float = 1.0) -> bool:
    want = np.repeat(want[..., None], 3, 2) if want.ndim == 2 else want[..., ::-1]
    return got.shape == want.shape and float(np.abs(got.astype(int) - want).mean()) <= most


PNG_START = b"\x89PNG\r\n\x1a\n"


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def tiff(values: np.ndarray, photometric: int, order: str = "<", planar: int = 1) -> bytes:
    """An uncompressed TIFF; ``planar`` 2 keeps its planes apart."""
    planes = [values] if planar == 1 else list(np.moveaxis(values, 2, 0))
    strips = [p.astype(p.dtype.newbyteorder(order)).tobytes() for p in planes]
    samples, size = values[0, 0].size, len(strips[0])
    tags = {256: [values.shape[1]], 257: [values.shape[0]], 259: [1], 262: [photometric]}
    tags |= {258: [8 * values.itemsize] * samples, 277: [samples], 278: [len(values)]}
    tags |= {273: [8 + n * size for n in range(len(strips))], 279: [size] * len(strips)}
    tags |= {284: [planar], 339: [3 if values.dtype.kind == "f" else 1] * samples}
    at = 8 + size * len(strips)
    behind, entries, far = at + 2 + 12 * len(tags) + 4, b"", b""
    for tag, numbers in sorted(tags.items()):
        body = struct.pack(f"{order}{len(numbers)}I", *numbers)
        if len(numbers) > 1:
            body, far = struct.pack(order + "I", behind + len(far)), far + body
        entries += struct.pack(order + "HHI", tag, 4, len(numbers)) + body
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", at)
    count = struct.pack(order + "H", len(tags))
    return head + b"".join(strips) + count + entries + bytes(4) + far


def png16(values: np.ndarray, extra: bytes = b"") -> bytes:
    """A PNG of 16 bits: grey, grey with alpha, RGB or RGBA by the last axis."""
    height, width = values.shape[:2]
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[1 if values.ndim == 2 else values.shape[2]]
    raw = values.astype(">u2").reshape(height, -1).view(np.uint8).reshape(height, -1)
    body = zlib.compress(np.pad(raw, ((0, 0), (1, 0))).tobytes())
    head = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    parts = chunk(b"IHDR", head) + extra + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    return PNG_START + parts


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_sixteen_bits_are_scaled_by_what_is_in_them(rgb, grey, bits):
    full = 2**bits - 1
    deep = np.round(rgb / 255 * full).astype(np.uint16)
    deep[0, 0] = full
    deep_grey = np.round(grey / 255 * full).astype(np.uint16)
    deep_grey[0, 0] = full
    assert near(read_image(png16(deep)), rgb)
    assert near(read_image(png16(np.dstack([deep, np.full_like(deep[..., :1], full)]))), rgb)
    assert near(read_image(png16(deep, chunk(b"tRNS", bytes([255] * 6)))), rgb)  # one clear colour
    assert near(read_image(png16(deep_grey)), grey)
    assert near(read_image(png16(np.dstack([deep_grey, np.full_like(deep_grey, full)]))), grey)
    assert near(read_image(encode(Image.fromarray(deep_grey), "TIFF")), grey)
    for compression in (None, "tiff_lzw", "tiff_adobe_deflate"):
        data = encode(Image.fromarray(deep_grey), "TIFF", compression=compression)
        assert near(read_image(data), grey)
    assert near(read_image(encode(Image.fromarray(deep_grey.astype(np.int32)), "TIFF")), grey)
    head = b"\n64 48\n65535\n"
    assert near(read_image(b"P5" + head + deep_grey.astype(">u2").tobytes()), grey)
    assert near(read_image(b"P6" + head + deep.astype(">u2").tobytes()), rgb)
    head = b"\n64 48\n%d\n" % full
    small = ">u2" if full > 255 else "u1"
    assert near(read_image(b"P6" + head + deep.astype(small).tobytes()), rgb)
    assert near(read_image(b"P5" + head + deep_grey.astype(small).tobytes()), grey)
    plain = " ".join(map(str, deep.ravel())).encode()
    assert near(read_image(b"P3" + head + b"# a comment\n" + plain + b"\n"), rgb)


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_of_either_byte_order(rgb, grey, order):
    for values, photometric in ((grey.astype(np.uint16) * 16, 1), (rgb.astype(np.uint16) * 16, 2)):
        assert near(read_image(tiff(values, photometric, order)), grey if photometric == 1 else rgb)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("factor", [16, 257])
def test_tiff_of_separate_planes(rgb, order, factor):
    assert near(read_image(tiff(rgb.astype(np.uint16) * factor, 2, order, planar=2)), rgb)
    assert near(read_image(tiff(rgb, 2, order, planar=2)), rgb, 0)
    deep = np.dstack([rgb, rgb[..., :1]]).astype(np.uint16) * 257
    with pytest.raises(ImageError, match="of a kind that mien does not read"):
        read_image(tiff(deep, 5, order, planar=2))


@pytest.mark.parametrize("full", [255, 4080, 65535, 1.0])
def test_tiff_whose_white_is_zero(grey, full):
    kind = np.float32 if full == 1 else np.uint8 if full == 255 else np.uint16
    data = tiff((full - grey / 255 * full).round(8).astype(kind), 0)
    assert near(read_image(data), grey)
    with Image.open(io.BytesIO(data)) as image:
        assert near(as_bgr(image, None), grey)


@pytest.mark.parametrize("scale", [1 / 255, 1.0])
def test_float_tiff(grey, scale):
    values = grey.astype(np.float32) * np.float32(scale)
    assert near(read_image(encode(Image.fromarray(values), "TIFF")), grey)
    values[0, 0] = np.nan
    assert near(read_image(encode(Image.fromarray(values), "TIFF")), grey)


def test_modes(rgb, grey):
    image = Image.fromarray(rgb)
    for form in ("PNG", "TIFF", "BMP"):
        assert near(
            read_image(encode(image.convert("1"), form)), np.asarray(image.convert("1")) * 255
        )
        palette = image.convert("P")
        assert near(read_image(encode(palette, form)), np.asarray(palette.convert("RGB")))
        assert near(read_image(encode(image.convert("L"), form)), grey)
    dots = np.asarray(image.convert("1"))
    plain = "\n".join(" ".join("01"[not dot] for dot in row) for row in dots)
    assert near(read_image(f"P1\n# dots\n64 48\n{plain}\n".encode()), dots * 255, 0)
    cmyk = image.convert("CMYK")
    assert near(read_image(encode(cmyk, "TIFF")), rgb)
    assert near(read_image(encode(cmyk, "JPEG", quality=98)), rgb, 3)
    assert near(read_image(encode(image.convert("YCbCr"), "TIFF")), rgb, 3)
    to_lab = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    lab = ImageCms.applyTransform(image, to_lab)
    assert near(read_image(encode(lab, "TIFF")), rgb, 25)
    assert near(
        read_image(encode(image.resize((64, 64)), "ICO")), np.asarray(image.resize((64, 64)))
    )
    assert near(read_image(encode(image, "JPEG2000")), rgb)
    assert near(read_image(encode(image, "AVIF", quality=95)), rgb, 6)
    assert near(read_image(encode(image, "JPEG", quality=98)), rgb, 4)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "1"])
def test_icons_of_bitmaps_are_read(rgb, mode):
    """All but those of PNGs were damaged files."""
    image = Image.fromarray(rgb).resize((64, 64)).convert(mode)
    data = encode(image, "ICO", bitmap_format="bmp", sizes=[(64, 64)])
    assert near(read_image(data), np.asarray(image.convert("RGB")))
    large = bytearray(data)
    at = struct.unpack_from("<I", data, 18)[0]
    struct.pack_into("<ii", large, at + 4, 12_000, 24_000)
    with pytest.raises(ImageError, match="declares 12,000×12,000 pixels"):
        read_image(bytes(large))


def test_transparency(rgb):
    image = Image.fromarray(rgb)
    clear = np.full((48, 64), 255, np.uint8)
    clear[:, :9] = 0
    want = rgb.copy()
    want[:, :9] = 255
    rgba = image.copy()
    rgba.putalpha(Image.fromarray(clear))
    for form, options in (("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True}), ("ICO", {})):
        if form != "ICO":
            assert near(read_image(encode(rgba, form, **options)), want), form
    key = image.copy()
    key.paste((1, 2, 3), (0, 0, 9, 48))
    assert near(read_image(encode(key, "PNG", transparency=(1, 2, 3))), want)
    light = rgba.convert("LA")
    got = read_image(encode(light, "PNG"))
    assert (got[:, :9] == 255).all()
    deep = np.dstack([rgb, clear]).astype(np.uint16) * 257
    assert near(read_image(png16(deep)), want)
    assert near(read_image(png16(np.dstack([deep[..., 0], deep[..., 3]]))), want[..., 0])
    palette = image.convert("P")
    palette.info["transparency"] = palette.getpixel((0, 0))
    assert (read_image(encode(palette, "PNG"))[0, 0] == 255).all()


def test_heic_is_read_or_names_its_extra(rgb, monkeypatch):
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(rgb)).save(buffer, quality=95)
    data = buffer.getvalue()
    assert near(read_image(data), rgb, 8)
    clear = Image.fromarray(np.dstack([rgb, np.full((48, 64), 255, np.uint8)]))
    image = pillow_heif.from_pillow(clear)
    image.premultiplied_alpha = True
    buffer = io.BytesIO()
    image.save(buffer, quality=95)
    assert pillow_heif.open_heif(buffer.getvalue()).mode == "RGBa"
    assert near(read_image(buffer.getvalue()), rgb, 8)
    with pytest.raises(ImageError, match="truncated or damaged HEIC"):
        read_image(data[: len(data) // 2])
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"a.heic is a HEIC image; .*mien\[heic\]"):
        read_image(data, name="a.heic")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_phone_formats_are_turned_once(rgb, orientation):
    pillow_heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[0x112] = orientation
    with Image.open(io.BytesIO(encode(Image.fromarray(rgb), "PNG", exif=exif))) as stored:
        want = np.asarray(ImageOps.exif_transpose(stored))
    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(rgb)).save(buffer, quality=95, exif=exif.tobytes())
    assert near(read_image(buffer.getvalue()), want, 8)
    assert near(read_image(encode(Image.fromarray(rgb), "AVIF", quality=95, exif=exif)), want, 6)


def test_a_bomb_is_refused_from_its_header():
    """100 million pixels of 64 bits in a few hundred kilobytes: 1.7 GB once, or 700 MB."""
    row = b"\0" + bytes(10_000 * 8)
    packer = zlib.compressobj(1)
    body = b"".join(packer.compress(row) for _ in range(100)) + packer.flush()
    head = struct.pack(">IIBBBBB", 10_000, 10_000, 16, 6, 0, 0, 0)
    data = PNG_START + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    with pytest.raises(ImageError, match=r"would take 1,\d+ MB to decode \(10,000×10,000"):
        read_image(data)


def test_scans_are_counted_before_they_are_decoded():
    """Each scan is a pass over the image: 4,000 took a minute and more."""
    plain = encode(Image.new("RGB", (2000, 2000), (120, 90, 60)), "JPEG", progressive=True)
    last = plain.rfind(b"\xff\xda\0")
    data = plain[:-2] + plain[last:-2] * 4000 + b"\xff\xd9"
    start = time.process_time()
    for bomb in (data, data[:-2]):
        with pytest.raises(ImageError, match="far more work than a JPEG"):
            read_image(bomb)
    assert time.process_time() - start < 2
    assert read_image(plain).shape == (2000, 2000, 3)


def test_a_second_image_in_a_jpeg_is_no_frame(rgb):
    image = Image.fromarray(rgb)
    data = encode(image, "MPO", save_all=True, append_images=[image, image])
    (frame,) = read_frames(data)
    assert frame.number is None
    assert near(frame.image, rgb, 8)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_frames(rgb, form):
    shades = [Image.new("RGB", (64, 48), (shade,) * 3) for shade in (20, 120, 220)]
    data = encode(shades[0], form, save_all=True, append_images=shades[1:], duration=200)
    frames = list(read_frames(data))
    assert [frame.number for frame in frames] == [0, 1, 2]
    assert [round(frame.image.mean() / 20) for frame in frames] == [1, 6, 11]
    if form in ("GIF", "WEBP", "PNG"):
        assert frames[0].seconds == 0.2


def test_frames_of_heic_begin_with_the_primary_one(rgb):
    pillow_heif = pytest.importorskip("pillow_heif")
    images = pillow_heif.from_pillow(Image.new("RGB", (64, 48), (20, 20, 20)))
    images.add_from_pillow(Image.fromarray(rgb))
    buffer = io.BytesIO()
    images.save(buffer, quality=95, primary_index=1)
    primary, other = read_frames(buffer.getvalue())
    assert (primary.number, other.number) == (0, 1)
    assert near(primary.image, rgb, 8)
    assert other.image.mean() < 40


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no /dev/zero here")
def test_a_device_without_an_end_is_too_large(monkeypatch):
    monkeypatch.setattr("mien.images.MAX_MEMORY", 1 << 20)
    with pytest.raises(ImageError, match="/dev/zero is larger than 1 MiB"):
        read_image("/dev/zero")
    with Path("/dev/zero").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        with pytest.raises(ImageError, match="standard input is larger than 1 MiB"):
            mien.predict("-")


@pytest.mark.parametrize("share", [0.03, 0.06])
@pytest.mark.parametrize("black", [0, 100, 240])
def test_dark_and_pale_faces_are_found(portrait, share, black):
    shades = black + portrait * share
    (face,) = mien.predict(np.round(shades).astype(np.uint8), color="bgr").faces
    assert face.emotion == "happy"


def test_a_dithered_face_is_found(portrait):
    one_bit = Image.fromarray(portrait[..., ::-1]).convert("1")
    (face,) = mien.predict(one_bit).faces
    assert face.emotion == "happy"


def test_a_data_url_may_be_broken_into_lines(rgb):
    lines = base64.encodebytes(encode(Image.fromarray(rgb), "PNG")).decode()
    assert near(read_image("DATA:image/png;BASE64," + lines), rgb)


@pytest.mark.parametrize("value_range", ["01", (1,), ("a", "b"), 5])
def test_a_range_that_is_none_is_refused(rgb, value_range):
    with pytest.raises(ImageError, match="does not suit the array"):
        as_bgr(rgb / 255, "rgb", value_range=value_range)


def test_ways_to_hand_an_image_over(rgb, tmp_path):
    data = encode(Image.fromarray(rgb), "PNG")
    path = tmp_path / "a.png"
    path.write_bytes(data)

    class Somewhere:
        def __fspath__(self) -> str:
            return str(path)

    url = "data:image/png;base64," + base64.b64encode(data).decode()
    for source in (path, str(path), Somewhere(), data, bytearray(data), io.BytesIO(data), url):
        assert np.array_equal(read_image(source), rgb[..., ::-1])
    for own in (*np.array([str(path)]), *np.array([data])):  # numpy's strings
        assert near(next(frames_of(own)).image, rgb)
    for bad in ("data:image/png,abc", "data:image/png;base64,???"):
        with pytest.raises(ImageError, match="expected data:image"):
            read_image(bad)
    with pytest.raises(ImageError, match="is an address, and mien fetches none"):
        read_image("http://localhost/a.png")


def test_an_array_of_paths_is_a_list_of_images(model, portrait, tmp_path):
    path = str(tmp_path / "a.png")
    cv2.imwrite(path, portrait)
    for result in mien.Analyzer(model).analyze_many(np.array([path, path])):
        assert type(result.source) is str
        assert len(result.faces) == 1


def test_a_pipe_is_read_to_its_end(portrait):
    data = cv2.imencode(".png", portrait)[1].tobytes()
    assert len(data) > 1 << 18
    out, into = os.pipe()

    def feed() -> None:
        with os.fdopen(into, "wb") as file:
            file.write(data)

    thread = threading.Thread(target=feed)
    thread.start()
    with os.fdopen(out, "rb", buffering=0) as pipe:
        assert np.array_equal(read_image(pipe), portrait)
    thread.join()
    with tempfile.TemporaryFile() as file, pytest.raises(ImageError, match="the stream is empty"):
        read_image(file)


def test_what_cannot_be_read_says_what_to_do(tmp_path):
    data = encode(Image.new("RGB", (20, 20)), "PNG")
    path = tmp_path / "a.png"
    path.write_bytes(data)
    used = io.BytesIO(data)
    used.read()
    closed = path.open("rb")
    closed.close()
    raw = tmp_path / "b.NEF"  # a TIFF inside, with a thumbnail
    raw.write_bytes(encode(Image.new("RGB", (20, 20)), "TIFF"))
    for source, words in [
        ("", "An empty name"),
        (base64.b64encode(bytes(9999)).decode(), "too long for a file's name; base64 is given as"),
        (used, "rewind it first"),
        (closed, "closed file"),
        (raw, "does not read NEF; save it as"),
        (b"%PDF-1.7", "is a PDF, not an image"),
        (b"\n<svg xmlns=''/>", "is an SVG"),
        (b"\0\0\0 ftypisom", "is a video"),
        (b"8BPS\0\1", "is a Photoshop"),
        (b"PK\x03\x04\x14", "is an archive"),
        (b"a.png".ljust(257, b"\0") + b"ustar", "is an archive"),
    ]:
        with pytest.raises(ImageError, match=words) as caught:
            read_image(source)
        assert len(str(caught.value)) < 300
    with path.open(encoding="utf-8") as text, pytest.raises(ImageError, match="binary mode"):
        read_image(text)


@pytest.fixture
def closed(tmp_path: Path, portrait: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A photo in a folder that may not be entered, by root neither."""
    path = tmp_path / "closed" / "a.png"
    path.parent.mkdir()
    cv2.imwrite(str(path), portrait)
    real = os.stat

    def stat(asked: Any, *args: Any, **options: Any) -> os.stat_result:
        if str(asked).startswith(f"{path.parent}{os.sep}"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), asked)
        return real(asked, *args, **options)

    monkeypatch.setattr(os, "stat", stat)
    return path


def test_a_data_url_may_be_longer_than_any_name(model, portrait, tmp_path):
    data = base64.b64encode(encode(Image.fromarray(portrait[..., ::-1]), "PNG")).decode()
    assert len(data) > 4096
    result = mien.predict(f"DATA:image/png;base64,{data}", model=model)
    assert result.source is None
    assert len(result.faces) == 1
    with pytest.raises(MienError, match="is gone"):
        result.save(tmp_path / "a.png")


def test_names_that_pathlib_raises_at_are_one_sentence(model, portrait, closed):
    analyzer = mien.Analyzer(model)
    too_long, base = "x" * 300, base64.b64encode(bytes(9999)).decode()
    for name, words in [
        (too_long, "of 300 characters, is too long for a file's name"),
        (base, "base64 is given as data:image"),
        (str(closed), r"a\.png cannot be read: Permission denied"),
        ("a\0b", r"a\\x00b cannot be read: embedded null"),
    ]:
        for read in (read_image, analyzer.analyze, lambda n: mien.predict(n, model=model)):
            with pytest.raises(ImageError, match=words):
                read(name)
    errors: list[str] = []
    images = [too_long, portrait, closed, base, portrait]
    found = analyzer.analyze_many(images, color="bgr", on_error=lambda name, _: errors.append(name))
    assert len(list(found)) == 2
    assert errors == [too_long, str(closed), base]


def test_inputs_that_pathlib_raises_at_are_one_sentence(closed, monkeypatch):
    for name, words in [("x" * 300, "xx… cannot be read: File name"), (closed, "denied")]:
        for kind, read in [
            (ModelError, mien.Analyzer),
            (ModelError, lambda n: mien.Analyzer(f"{n}.onnx")),
            (VideoError, Video),
            (ImageError, lambda n: list(find_images([n]))),
            (ImageError, lambda n: mien.batch([n], "out")),
        ]:
            with pytest.raises(kind, match=words) as caught:
                read(name)
            assert len(str(caught.value)) < 300
    with pytest.raises(ImageError, match="denied"):
        list(find_images([closed.with_name("*.png")]))
    monkeypatch.chdir(closed.parent)  # a shipped model's name is no file's
    assert mien.Analyzer("mien_photo").info.name == "mien_photo"


def test_a_result_of_a_stream_may_have_any_name(model, closed, tmp_path):
    for name in ("x" * 300, str(closed)):
        data = encode(Image.new("RGB", (20, 20)), "PNG")
        result = mien.Analyzer(model).analyze(data, source=name)
        result.save(tmp_path / "a.json")
        assert (tmp_path / "a.json").is_file()


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_alpha_that_nobody_set_is_ignored(rgb, form):
    """Screen captures give BGRX with 0: they were a white page without faces."""
    image = Image.fromarray(rgb)
    image.putalpha(0)
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    assert near(read_image(encode(image, form, **options)), rgb, 0)
    assert near(as_bgr(image, None), rgb, 0)
    assert near(as_bgr(np.asarray(image), "rgb"), rgb, 0)
    assert near(as_bgr(np.asarray(image) / 255, "rgb", value_range=(0, 1)), rgb, 0)
    grey = image.convert("LA")
    assert near(read_image(encode(grey, "PNG")), np.asarray(grey)[..., 0], 0)
    for factor in (16, 257):
        deep = np.asarray(image).astype(np.uint16) * factor
        assert near(read_image(png16(deep)), rgb)
    large = image.resize((900, 1200))  # of several stripes, of which all but one are clear
    large.putpixel((880, 1190), (0, 0, 0, 255))
    for got in (read_image(encode(large, form, **options)), as_bgr(np.asarray(large), "rgb")):
        assert got.sum() == 255 * 3 * (900 * 1200 - 1)


def test_pil_images_are_upright_and_of_any_mode(rgb, grey):
    image = Image.fromarray(rgb)
    assert near(as_bgr(image, None), rgb)
    assert near(as_bgr(image.convert("L"), None), grey)
    assert near(as_bgr(Image.fromarray(grey.astype(np.uint16) * 16), None), grey)
    assert near(as_bgr(image.convert("LA").convert("La"), None), grey)
    exif = Image.Exif()
    exif[0x112] = 6
    with Image.open(io.BytesIO(encode(image, "PNG", exif=exif))) as turned:
        assert as_bgr(turned, None).shape == (64, 48, 3)


@pytest.mark.parametrize("change", ["deleted", "set to 1", "transposed", "left"])
def test_the_tag_of_a_pil_image_is_the_one_that_the_caller_left(rgb, change):
    """An image turned by hand was turned again, although its tag was deleted."""
    exif = Image.Exif()
    exif[0x112] = 6
    with Image.open(io.BytesIO(encode(Image.fromarray(rgb), "PNG", exif=exif))) as stored:
        turned = stored.transpose(Image.Transpose.ROTATE_270)
        if change == "deleted":
            del turned.getexif()[0x112]
        elif change == "set to 1":
            turned.getexif()[0x112] = 1
        elif change == "transposed":
            turned = ImageOps.exif_transpose(stored)
        want = np.asarray(ImageOps.exif_transpose(turned))
        assert near(as_bgr(turned, None), want, 0)
        assert (want.shape == (64, 48, 3)) == (change != "left")


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "raw profile"])
def test_an_orientation_in_xmp_or_a_raw_profile_is_applied(rgb, form, orientation):
    image = Image.fromarray(rgb)
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>' % orientation
    exif = Image.Exif()
    exif[0x112] = orientation
    text = PngImagePlugin.PngInfo()
    if form == "PNG":
        text.add_itxt("XML:com.adobe.xmp", xmp.decode())
    if form == "raw profile":  # as ImageMagick writes it
        block = exif.tobytes()
        text.add_text("Raw profile type exif", f"\nexif\n{len(block):8}\n{block.hex()}\n", zip=True)
    if form in ("PNG", "raw profile"):
        data = encode(image, "PNG", pnginfo=text)
    else:
        data = encode(image, form, xmp=xmp, **({"lossless": True} if form == "WEBP" else {}))
    with Image.open(io.BytesIO(data)) as stored:
        want = np.asarray(ImageOps.exif_transpose(stored))
        assert near(as_bgr(stored, None), want, 3)
    assert near(read_image(data), want, 3)
    assert want.shape == ((64, 48, 3) if orientation == 6 else (48, 64, 3))


def test_arrays_say_their_range(rgb, grey):
    for array, value_range in [
        (rgb / 255, (0, 1)),
        (rgb.astype(np.float32), (0, 255)),
        (rgb.astype(np.uint16) * 16, (0, 4080)),
        (rgb / 127.5 - 1, (-1, 1)),
        (np.moveaxis(rgb, 2, 0) / 255, (0, 1)),
    ]:
        assert near(as_bgr(array, "rgb", value_range=value_range), rgb)
    assert near(as_bgr(grey > 99, None), (grey > 99) * np.uint8(255))
    with pytest.raises(ImageError, match=r"dtype float64; .*value_range=\(0, 1\)"):
        as_bgr(rgb / 255, "rgb")
    with pytest.raises(ImageError, match=r"Most values .* from 0 to "):
        as_bgr(rgb.astype(np.float32), "rgb", value_range=(0, 1))
    for fractions in (rgb / 255, (rgb / 255).astype(np.float16), rgb / 127.5 - 1):  # were black
        with pytest.raises(ImageError, match=r"Most values .* from (0|-1) to "):
            as_bgr(fractions, "rgb", value_range=(0, 255))
    for dark in (np.zeros(rgb.shape), np.eye(99) * 0.7, rgb > 99.0):  # images may be
        as_bgr(dark, "rgb", value_range=(0, 255))
    for bad in (np.float32(0.5), np.zeros((0, 0, 3)), np.zeros((0, 9), np.float32)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(ImageError, match=r"shape|too small"):
                as_bgr(bad, "rgb", value_range=(0, 1))
    with_gaps = np.where(grey > 99, grey / 255, np.nan)
    assert near(as_bgr(with_gaps, None, value_range=(0, 1)), np.where(grey > 99, grey, 0))
    for dtype in (np.float16, np.float64):
        empty = np.full((48, 64, 3), np.nan, dtype)
        with pytest.raises(ImageError, match="the array holds no numbers: every value is NaN"):
            as_bgr(empty, "rgb", value_range=(0, 1))
        empty[:9] = 7
        with pytest.raises(ImageError, match=r"Most values .* from 7 to 7"):
            as_bgr(empty, "rgb", value_range=(0, 1))
    for bad in ((1, 0), (0, float("nan"))):
        with pytest.raises(ImageError, match="does not suit"):
            as_bgr(rgb / 255, "rgb", value_range=bad)


@pytest.mark.parametrize("dtype", ["f2", "f8", "i8", "u2"])
@pytest.mark.parametrize("white", [1, 255, 4095])
def test_the_range_that_is_asked_for_suits_the_values(rgb, white, dtype):
    array = (rgb / 255 * white).round(2 if white == 1 and dtype[0] == "f" else 0).astype(dtype)
    with pytest.raises(ImageError, match=rf"value_range=\(0, {white}\)"):
        as_bgr(array, "rgb")
    for odd in (np.full((9, 9), np.nan), np.full((9, 9), None), np.zeros((9, 9), complex)):
        with pytest.raises(ImageError, match=r"value_range=\(0, 1\)"):
            as_bgr(odd, "rgb")


def test_tensors(rgb):
    torch = pytest.importorskip("torch")
    tensor = torch.tensor(rgb)
    assert near(as_bgr(tensor, "rgb"), rgb)
    assert near(as_bgr(tensor.permute(2, 0, 1) / 255, "rgb", value_range=(0, 1)), rgb)
    for half in ((tensor / 255).requires_grad_(), (tensor / 255).bfloat16()):
        assert near(as_bgr(half, "rgb", value_range=(0, 1)), rgb)
    with pytest.raises(ImageError, match="cannot be read as an array"):
        as_bgr(tensor.float().to_sparse(), "rgb", value_range=(0, 255))
    with pytest.raises(ImageError, match=r"image by image: list\(batch\)"):
        as_bgr(tensor.permute(2, 0, 1)[None], "rgb")

    class OnlyDlpack:
        __dlpack__ = tensor.__dlpack__
        __dlpack_device__ = tensor.__dlpack_device__

    assert near(as_bgr(OnlyDlpack(), "rgb"), rgb)


def test_a_list_says_which_image_failed(model, portrait):
    images = [portrait, np.zeros((9, 9, 3), np.float32), "gone.png", portrait]
    errors = []
    found = mien.predict(
        images, model=model, color="bgr", on_error=lambda name, error: errors.append((name, error))
    )
    assert [len(result.faces) for result in found] == [1, 1]
    assert [name for name, _ in errors] == ["image 1", "gone.png"]
    assert str(errors[0][1]).startswith("image 1: the array has dtype")
    with pytest.raises(ImageError, match="image 1: the array"):
        mien.predict(images, model=model, color="bgr")
    with pytest.raises(ImageError, match="image 1: the array"):
        list(mien.Analyzer(model).analyze_many(images, color="bgr"))


def test_pillow_is_left_as_it_was(rgb):
    """Limits, switches and warning filters are the caller's, also where threads overlap."""
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
    exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0" + bytes(40)
    data = encode(Image.fromarray(rgb), "JPEG", exif=exif)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inside = list(warnings.filters)
        frames = read_frames(encode(Image.fromarray(rgb), "GIF"))
        next(frames)
        assert list(warnings.filters) == inside
        read_image(data)
        with pytest.raises(ImageError, match="declares 12,000×12,000"):
            read_image(encode(Image.new("1", (12000, 12000)), "PNG"))
    after = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
    assert before == after


def test_the_case_of_twelve_bits(portrait, tmp_path: Path):
    deep = np.round(portrait[..., ::-1] / 255 * 4095).astype(np.uint16)
    assert near(read_image(png16(deep)), portrait[..., ::-1])


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_every_frame_of_an_animation_is_a_frame_of_a_video(portrait, tmp_path, form):
    shades = [Image.fromarray(portrait[..., ::-1] // k) for k in (1, 2, 3, 4)]
    path = tmp_path / "a.bin"
    path.write_bytes(encode(shades[0], form, save_all=True, append_images=shades[1:], duration=200))
    video = Video(path)
    frames = list(video.frames())
    assert (video.width, video.height) == (512, 512)
    assert [frame.number for frame in frames] == [0, 1, 2, 3]
    gap = 0.04 if form == "TIFF" else 0.2
    assert [frame.time for frame in frames] == pytest.approx([0, gap, 2 * gap, 3 * gap])
    means = [frame.image.mean() for frame in frames]
    assert means == pytest.approx([portrait.mean() / k for k in (1, 2, 3, 4)], abs=3)


def test_damage_is_said_once_and_by_mien_alone(rgb, capfd):
    """Nothing of Pillow's warnings and logs, nor of libtiff's own lines."""
    rng = np.random.default_rng(0)
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", None):
        seed = encode(Image.fromarray(rgb), "TIFF", compression=compression)
        for _ in range(100):
            data = bytearray(seed)
            for at in (
                *rng.integers(0, len(data), 3),
                *rng.integers(len(data) - 200, len(data), 3),
            ):
                data[at] = 255
            with suppress(ImageError):
                read_image(bytes(data))
    assert capfd.readouterr().err == ""


def test_a_cut_animation_is_no_short_video(portrait, tmp_path):
    shades = [Image.fromarray(portrait[..., ::-1] // k) for k in (1, 2, 3)]
    data = encode(shades[0], "PNG", save_all=True, append_images=shades[1:], duration=200)
    (tmp_path / "a.png").write_bytes(data[: len(data) * 4 // 5])
    with pytest.raises(VideoError, match="truncated or damaged PNG"):
        list(Video(tmp_path / "a.png").frames())


@pytest.mark.parametrize("ending", ["png", "tif", "ppm"])
@pytest.mark.parametrize("kind", ["grey", "colour", "alpha"])
@pytest.mark.parametrize("bits", [10, 12])
def test_hot_pixels_do_not_darken_a_deep_image(
    portrait, tmp_path: Path, kind: str, bits: int, ending: str
):
    deep = portrait.astype(np.uint16) << (bits - 8)
    if kind == "grey":
        deep = cv2.cvtColor(deep, cv2.COLOR_BGR2GRAY)
    if kind == "alpha":
        deep = np.dstack([deep, np.full(deep.shape[:2], 65535, np.uint16)])
    deep[3, 5] = deep[100, 7] = 65535
    if ending == "ppm" and kind != "colour":
        pytest.skip("it holds colour alone")
    path = tmp_path / f"hot.{ending}"
    cv2.imwrite(str(path), deep)
    assert abs(read_image(path).mean() - portrait.mean()) < 12
    deep[-24:] = 65535  # a caption drawn on it
    cv2.imwrite(str(path), deep)
    image = read_image(path)
    assert abs(image[:-24].mean() - portrait[:-24].mean()) < 12
    assert image[-20:].min() == 255


def test_a_rare_pil_mode_is_read_or_refused_in_a_sentence():
    try:
        image = Image.new("LA", (64, 64)).convert("La")
    except ValueError:
        pytest.skip("this Pillow has no mode La")
    with suppress(ImageError):
        assert mien.Analyzer(threads=1).analyze(image).faces == ()
