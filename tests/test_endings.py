"""Files are looked for by their endings: what cameras write is read, or named as not read."""

from __future__ import annotations

import io
import re
import shlex
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

from mien.batch.plan import find_items
from mien.errors import ImageError
from mien.images import read_image
from mien.sources import (
    SUFFIXES,
    UNREAD_SUFFIXES,
    VIDEO_SUFFIXES,
    LeftOut,
    find_images,
    find_videos,
)

#: Endings of Pillow's own that are no images, or far more often something else.
NO_IMAGES = re.compile(
    r"\.(bufr|flc|fli|fits?|ft[cu]|gbr|grib|h5|hdf|icb|iim|im|msp|palm|pdf|ps|pxr|vda|vst|xpm)"
)
#: What Pillow writes under an ending that is not its own.
FORMS = {
    **dict.fromkeys((".insp", ".jfi", ".jif", ".jps", ".pjp", ".pjpeg"), "JPEG"),
    **dict.fromkeys((".btf", ".tf8"), "TIFF"),
    ".dib": "BMP",
}
HEIC = {".heic", ".heif", ".heics", ".heifs", ".hif"}


def known() -> dict[str, str]:
    Image.init()
    return {**Image.registered_extensions(), **FORMS}


def written(ending: str) -> bytes:
    """A small photo of the kind that ``ending`` stands for."""
    image = Image.linear_gradient("L").convert("1" if ending == ".xbm" else "RGB")
    image = image.convert("P") if ending == ".blp" else image
    buffer = io.BytesIO()
    more = {"append_images": [image], "save_all": True} if ending in (".mpo", ".avifs") else {}
    image.save(buffer, known()[ending], **more, **({"big_tiff": True} if ending == ".btf" else {}))
    return buffer.getvalue()


@pytest.mark.parametrize("ending", sorted(SUFFIXES - HEIC))
def test_every_ending_that_is_looked_for_is_read(ending: str, tmp_path: Path) -> None:
    file = tmp_path / f"a{ending.upper()}"
    file.write_bytes(written(ending))
    assert list(find_images([tmp_path])) == [file]
    assert min(read_image(file).shape[:2]) > 8


@pytest.mark.parametrize("ending", sorted(HEIC))
def test_heic_under_every_ending_of_its(ending: str, tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    image = heif.from_pillow(Image.linear_gradient("L").convert("RGB"))
    image.save(tmp_path / "a.heic")
    (tmp_path / "a.heic").rename(tmp_path / f"a{ending}")
    assert [read_image(file).shape for file in find_images([tmp_path])] == [(256, 256, 3)]


def test_every_ending_that_pillow_knows_is_read_or_named() -> None:
    """`.mpo`, the photos of 3D cameras and many phones, were passed over as no images."""
    other = set(known()) - SUFFIXES - UNREAD_SUFFIXES - VIDEO_SUFFIXES
    assert [ending for ending in sorted(other) if not NO_IMAGES.fullmatch(ending)] == []


@pytest.mark.parametrize("ending", [".dds", ".sgi", ".icns", ".xbm", ".3fr", ".erf", ".x3f"])
def test_images_that_are_not_read_are_named(ending: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(written(".jpg"))
    file = tmp_path / f"b{ending}"
    file.write_bytes(written(ending) if ending in known() else b"II*\0")
    left: list[LeftOut] = []
    assert list(find_images([tmp_path], on_left_out=left.append)) == [tmp_path / "a.jpg"]
    assert left == [LeftOut(file, f"{ending[1:].upper()} is not read", True)]
    with pytest.raises(ImageError, match=f"mien does not read {ending[1:].upper()}"):
        read_image(file)


def test_archives_have_a_row_for_every_photo(tmp_path: Path) -> None:
    for name in ("a.mpo", "b.dds"):
        (tmp_path / name).write_bytes(written(Path(name).suffix))
    with (
        zipfile.ZipFile(tmp_path / "a.zip", "w") as archive,
        tarfile.open(tmp_path / "a.tar", "w") as tar,
    ):
        for name in ("a.mpo", "b.dds"):
            archive.write(tmp_path / name, name)
            tar.add(tmp_path / name, name)
    for source in ("a.zip", "a.tar"):
        items = list(find_items([tmp_path / source], lambda name: True))
        assert [item.name.rpartition("::")[2] for item in items] == ["a.mpo", "b.dds"]
        assert [item.problem is None for item in items] == [True, False]


def test_a_raw_photo_is_not_read_in_a_list_or_a_store_either(tmp_path: Path) -> None:
    """Its thumbnail was read where a list named it; a store passed it over without a word."""
    (tmp_path / "a.dng").write_bytes(written(".tif"))
    (tmp_path / "a.jpg").write_bytes(written(".jpg"))
    (tmp_path / "list.txt").write_text("a.dng\n")
    sources: list[str | Path] = [tmp_path / "a.dng", tmp_path / "list.txt"]
    if find_spec("fsspec"):
        sources += [f"file://{tmp_path}", f"file://{tmp_path}/a.dng"]
    for source in sources:
        raw = next(find_items([source], lambda name: True))
        assert str(raw.problem).endswith("a.dng is left out: DNG is not read."), source


@pytest.mark.parametrize("name", ["my photos.ZIP", "a.tar", "a.tar.gz", "a.tgz", "a.txz"])
def test_an_archive_is_named_with_what_looks_into_it(name: str, tmp_path: Path) -> None:
    """It was no image that mien reads, and no word of mien batch."""
    (tmp_path / name).write_bytes(b"PK")
    quoted = shlex.quote(str(tmp_path / name))
    for find in (find_images, find_videos):
        with pytest.raises(ImageError) as caught:
            list(find([tmp_path / name]))
        assert f"{name} is an archive; unpack it, or" in str(caught.value)
        assert str(caught.value).endswith(f": mien batch {quoted} --out FOLDER")
    (tmp_path / "a.jpg").write_bytes(written(".jpg"))
    left: list[LeftOut] = []
    assert list(find_images([tmp_path], on_left_out=left.append)) == [tmp_path / "a.jpg"]
    assert left == [LeftOut(tmp_path / name, "an archive, for mien batch", False)]
    [item] = find_items([tmp_path / name], lambda name: True)  # which does
    assert "mien batch" not in str(item.problem)
