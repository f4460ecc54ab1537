"""Damaged files of every kind that mien reads: whole ones made here, then changed at random."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

Rng = np.random.Generator


def damage(rng: Rng, whole: bytes, changes: int = 6) -> bytes:
    """``whole`` with bytes changed, cut off, repeated, moved, or made the largest number."""
    data = bytearray(whole)
    for _ in range(int(rng.integers(1, changes + 1))):
        if len(data) < 8:
            break
        # Half of the changes go into the head, where the sizes stand.
        at = int(rng.integers(0, min(len(data), 256) if rng.random() < 0.5 else len(data)))
        match int(rng.integers(0, 8)):
            case 0 | 1:
                data[at] ^= 1 << int(rng.integers(0, 8))
            case 2:
                data[at] = int(rng.integers(0, 256))
            case 3:
                del data[at + 1 :]
            case 4:
                data[at:at] = data[at : at + int(rng.integers(1, 64))] * int(rng.integers(1, 9))
            case 5:
                data[at : at + 4] = b"\xff\xff\xff\xff"
            case 6:
                data[at : at + 4] = struct.pack(">I", int(rng.integers(0, 1 << 31)))
            case 7:
                data[at:at] = rng.bytes(int(rng.integers(1, 32)))
    return bytes(data)


# ---- images ---------------------------------------------------------------------------------


def _scene(side: int = 96) -> Image.Image:
    rng = np.random.default_rng(1)
    low = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
    return Image.fromarray(cv2.resize(low, (side, side + 8), interpolation=cv2.INTER_CUBIC))


def _saved(image: Image.Image, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


@cache
def whole_images() -> dict[str, bytes]:
    """A small image in every form that mien reads."""
    rgb = _scene()
    deep = np.asarray(rgb.convert("L"), np.uint16) * 257
    frames = [rgb.rotate(90 * k) for k in range(3)]
    many = {"save_all": True, "append_images": frames}
    found = {
        "jpeg": _saved(rgb, "JPEG", quality=80),
        "jpeg progressive": _saved(rgb, "JPEG", progressive=True),
        "jpeg cmyk": _saved(rgb.convert("CMYK"), "JPEG"),
        "jpeg exif": _saved(rgb, "JPEG", exif=Image.Exif().tobytes() + bytes(200)),
        "png": _saved(rgb, "PNG"),
        "png palette": _saved(rgb.convert("P"), "PNG", transparency=0),
        "png alpha": _saved(rgb.convert("RGBA"), "PNG"),
        "png 16": _saved(Image.fromarray(deep), "PNG"),
        "png 1": _saved(rgb.convert("1"), "PNG"),
        "apng": _saved(rgb, "PNG", **many),
        "webp": _saved(rgb, "WEBP"),
        "webp lossless": _saved(rgb.convert("RGBA"), "WEBP", lossless=True),
        "webp moving": _saved(rgb, "WEBP", **many),
        "gif": _saved(rgb.convert("P"), "GIF"),
        "gif moving": _saved(rgb, "GIF", **many),
        "bmp": _saved(rgb, "BMP"),
        "tiff": _saved(rgb, "TIFF"),
        "tiff lzw": _saved(rgb, "TIFF", compression="tiff_lzw"),
        "tiff pages": _saved(rgb, "TIFF", **many),
        "ppm": _saved(rgb, "PPM"),
        "pgm": _saved(rgb.convert("L"), "PPM"),
    }
    for form in ("AVIF", "HEIF"):
        try:
            if form == "HEIF":
                import pillow_heif

                pillow_heif.register_heif_opener()
            found[form.lower()] = _saved(rgb, form)
        except (ImportError, KeyError, OSError):
            continue
    return found


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


#: Where a run keeps its bombs: to make them takes the memory that reading them must not.
BOMBS = Path(tempfile.gettempdir()) / f"mien-hostile-bombs-{os.getuid()}"


def write_bombs() -> None:
    """Make the bombs once, in a process of their own."""
    if not BOMBS.is_dir():
        code = "import hostile_files; hostile_files.make_bombs()"
        here = str(Path(__file__).parent)
        subprocess.run([sys.executable, "-c", code], cwd=here, check=True)


@cache
def bombs() -> dict[str, bytes]:
    """Small files that ask for much: scans, strips, pixels, text, frames."""
    return {path.name: path.read_bytes() for path in sorted(BOMBS.iterdir())}


def make_bombs() -> None:
    """Write them all into :data:`BOMBS`."""
    whole = _bombs()
    new = Path(tempfile.mkdtemp(dir=BOMBS.parent))
    for name, data in whole.items():
        (new / name).write_bytes(data)
    with suppress(OSError):  # another run was faster
        new.rename(BOMBS)


def _bombs() -> dict[str, bytes]:
    rgb = _scene()
    progressive = _saved(rgb, "JPEG", progressive=True)
    last = progressive.rfind(b"\xff\xda")
    scan = progressive[last:-2]
    head = struct.pack(">IIBBBBB", 10_000, 10_000, 16, 6, 0, 0, 0)
    rows = zlib.compress(bytes(80_001) * 1000, 9)
    text = zlib.compress(bytes(200_000_000), 9)
    magic = b"\x89PNG\r\n\x1a\n"
    small = struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(64 * 193))
    frames = [Image.new("P", (2000, 2000), k) for k in range(60)]
    return {
        "jpeg of 4,000 scans": progressive[:-2] + scan * 4000 + b"\xff\xd9",
        "png 10,000² of 16 bits": magic
        + _png_chunk(b"IHDR", head)
        + _png_chunk(b"IDAT", rows)
        + _png_chunk(b"IEND", b""),
        "png with 200 MB of text": magic
        + _png_chunk(b"IHDR", small)
        + _png_chunk(b"zTXt", b"a\0\0" + text)
        + _png_chunk(b"IDAT", pixels)
        + _png_chunk(b"IEND", b""),
        "png with 200 MB of profile": magic
        + _png_chunk(b"IHDR", small)
        + _png_chunk(b"iCCP", b"a\0\0" + text)
        + _png_chunk(b"IDAT", pixels)
        + _png_chunk(b"IEND", b""),
        "tiff of a million strips": _striped(1_000_000),
        "gif of 60 large frames": _saved(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "jpeg of 9,000²": _saved(Image.new("L", (9000, 9000), 90), "JPEG", quality=20),
        "webp of 9,000²": _saved(Image.new("RGB", (9000, 9000), (9, 9, 9)), "WEBP", quality=5),
    }


def _striped(count: int) -> bytes:
    """A grey TIFF of one row a strip; every strip is the same 16 bytes."""
    entries = [
        (256, 4, 1, 16),
        (257, 4, 1, count),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, count, 8 + 2 + 9 * 12 + 4 + 16),
        (277, 3, 1, 1),
        (278, 4, 1, 1),
        (279, 4, count, 8 + 2 + 9 * 12 + 4 + 16 + 4 * count),
    ]
    offset = 8 + 2 + 9 * 12 + 4
    directory = struct.pack("<H", len(entries))
    directory += b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    strips = struct.pack("<I", offset) * count + struct.pack("<I", 16) * count
    return b"II*\0" + struct.pack("<I", 8) + directory + bytes(range(16)) + strips


def make_image(rng: Rng, folder: Path) -> tuple[Path, str]:
    """A damaged image; one in 40 is a bomb."""
    if rng.random() < 0.025:
        name = str(rng.choice(list(bombs())))
        data = bombs()[name]
    else:
        name = str(rng.choice(list(whole_images())))
        data = damage(rng, whole_images()[name])
    path = folder / "picture"
    path.write_bytes(data)
    return path, name


def read_image(path: Path) -> None:
    """As `mien predict` reads it."""
    from mien.images import read_image

    read_image(path)


# ---- videos ------------------------------------------------------------------------------------


@cache
def whole_videos() -> dict[str, bytes]:
    """Short videos in the containers that OpenCV writes."""
    found = {}
    image = np.asarray(_scene().resize((160, 120)))[:, :, ::-1]
    with tempfile.TemporaryDirectory() as folder:
        for suffix, code in (
            (".mp4", "mp4v"),
            (".avi", "MJPG"),
            (".avi", "XVID"),
            (".mkv", "mp4v"),
        ):
            path = Path(folder, f"film{suffix}")
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), 25, (160, 120))
            for k in range(12):
                writer.write(np.roll(image, 3 * k, axis=1))
            writer.release()
            found[f"{suffix[1:]} {code}"] = path.read_bytes()
    return found


def make_video(rng: Rng, folder: Path) -> tuple[Path, str]:
    """A damaged video."""
    name = str(rng.choice(list(whole_videos())))
    path = folder / f"film.{name.split()[0]}"
    path.write_bytes(damage(rng, whole_videos()[name], 12))
    return path, name


def read_video(path: Path) -> None:
    """As `mien video` reads it, to its end, without looking at the frames."""
    from mien.video.reader import Video

    for _ in Video(path).frames():
        pass


# ---- datasets ---------------------------------------------------------------------------------


@cache
def whole_datasets() -> dict[str, bytes]:
    """Small datasets: FER2013's CSV, FER+ votes, parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(2)
    faces = rng.integers(0, 256, (8, 48, 48)).astype(np.uint8)
    rows = [f"{k % 7},{' '.join(map(str, face.ravel()))},Training" for k, face in enumerate(faces)]
    votes = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,"
    votes += "unknown,NF\n" + "".join(
        f"Training,fer{k:07d}.png,4,0,0,1,3,2,0,0,0,0\n" for k in range(8)
    )
    pngs = [cv2.imencode(".png", face)[1].tobytes() for face in faces]
    table = pa.table(
        {
            "image": [{"bytes": png, "path": f"{k}.png"} for k, png in enumerate(pngs)],
            "emotion": [k % 7 for k in range(8)],
            "usage": ["Training"] * 6 + ["PublicTest", "PrivateTest"],
        }
    )
    out = io.BytesIO()
    pq.write_table(table, out)
    return {
        "csv": ("emotion,pixels,Usage\n" + "\n".join(rows) + "\n").encode(),
        "votes.csv": votes.encode(),
        "parquet": out.getvalue(),
    }


def make_dataset(rng: Rng, folder: Path) -> tuple[Path, str]:
    """A damaged dataset."""
    name = str(rng.choice(list(whole_datasets())))
    path = folder / f"data.{name}"
    if name == "votes.csv":  # read with the CSV that they are of
        whole = folder / "data.csv"
        whole.write_bytes(whole_datasets()["csv"])
        path = folder / "datanew.csv"
    else:
        whole = path
        (folder / "datanew.csv").unlink(missing_ok=True)
    path.write_bytes(damage(rng, whole_datasets()[name]))
    return whole, name


def read_data(path: Path) -> None:
    """As every verb with --data reads it."""
    from mien.data import read_dataset

    read_dataset(path)


# ---- models and checkpoints -------------------------------------------------------------------


@cache
def whole_model() -> bytes:
    """The shipped model."""
    from mien import zoo

    return Path(zoo.model_path(zoo.DEFAULT)).read_bytes()


def make_model(rng: Rng, folder: Path) -> tuple[Path, str]:
    """The shipped model, damaged in its graph or in what it says of itself."""
    data = whole_model()
    path = folder / "model.onnx"
    if rng.random() < 0.5:
        path.write_bytes(damage(rng, data))
        return path, "graph"
    import onnx

    model = onnx.load_from_string(data)
    entry = next(e for e in model.metadata_props if e.key == "mien")
    record = json.loads(entry.value)
    key = str(rng.choice(list(record)))
    odd: list[Any] = [None, "x", -1, 1e308, float("nan"), [], {}, "é" * 9999, True, [[[]]], 20000]
    record[key] = odd[int(rng.integers(0, len(odd)))]
    entry.value = json.dumps(record)
    path.write_bytes(model.SerializeToString())
    return path, f"metadata: {key}"


def read_model(path: Path) -> None:
    """As every verb with --model reads it, then one face."""
    from mien.classify import load_classifier

    classifier = load_classifier(path, 1)
    size = classifier.info.input_size
    p = classifier.predict_proba(np.zeros((2, size, size), np.uint8))
    assert np.isfinite(p).all(), "an answer that is no number"


@cache
def whole_checkpoint() -> bytes:
    """A small network's checkpoint."""
    import torch

    from mien.models import create_model
    from mien.train.recipes import get_recipe

    recipe = get_recipe("mien_fast")
    model = create_model(recipe.model)
    state = {f"model.{k}": v for k, v in model.state_dict().items()}
    record = {"recipe": recipe.to_dict(), "mean": 0.5, "std": 0.25, "seed": 0}
    record["classes"] = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
    record["data"] = {"name": "fer2013", "sha256": "0", "protocol": "fer2013", "fold": None}
    out = io.BytesIO()
    torch.save({"mien": record, "state_dict": state}, out)
    return out.getvalue()


class Hostile:
    """Leaves a mark where it is unpickled by something that executes."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (self.mark, "w"))


def make_checkpoint(rng: Rng, folder: Path) -> tuple[Path, str]:
    """A damaged checkpoint, or one that would execute."""
    path = folder / "best.ckpt"
    if rng.random() < 0.1:
        import torch

        torch.save({"mien": Hostile(str(folder / "executed")), "state_dict": {}}, path)
        return path, "executes"
    path.write_bytes(damage(rng, whole_checkpoint()))
    return path, "damaged"


def read_checkpoint(path: Path) -> None:
    """As every verb with a .ckpt reads it."""
    from mien.train import load_checkpoint

    try:
        load_checkpoint(path)
    finally:
        mark = path.with_name("executed")
        if mark.exists():
            mark.unlink()
            raise AssertionError("the checkpoint was executed")


Make = Callable[[Rng, Path], tuple[Path, str]]
MAKERS: dict[str, tuple[Make, Callable[[Path], None]]] = {
    "images": (make_image, read_image),
    "videos": (make_video, read_video),
    "datasets": (make_dataset, read_data),
    "models": (make_model, read_model),
    "checkpoints": (make_checkpoint, read_checkpoint),
}
