"""A request's body as images in memory: raw bytes or multipart. Nothing is written to disk."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from mien.web.problems import Problem
from mien.web.work import Upload

if TYPE_CHECKING:
    from starlette.requests import Request

    from mien.web.settings import Limits

_RAW = re.compile(r"image/[a-z0-9.+-]+|application/octet-stream", re.ASCII)
_NAME_LENGTH = 200

_DAMAGED = "The multipart body is damaged or cut off: send it with a form-data library."
_TEXT_FIELD = (
    "A form field holds text where an image should be; attach images as files "
    "(curl: -F images=@photo.jpg) and give options in the query."
)


class _MemoryParser(MultiPartParser):
    """Starlette's parser, but a part never spills into a temporary file."""

    spool_max_size = 1 << 40  # the body itself is bounded before it comes here


async def read_uploads(request: Request, limits: Limits) -> list[Upload]:
    """The images of ``request``, in order.

    Raises:
        Problem: 400 a damaged body; 413 too many images; 415 another content type; 422 none.
    """
    declared = request.headers.get("content-type", "application/octet-stream")
    kind = declared.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        uploads = await _multipart(request, limits)
    elif _RAW.fullmatch(kind):
        data = await request.body()
        uploads = [Upload(data)] if data else []
    else:
        raise Problem(
            415,
            "Send images as multipart/form-data files, or one as the body with a content type "
            "like image/jpeg; the server reads no path, no URL and no JSON.",
        )
    if not uploads:
        raise Problem(422, "The request holds no image.")
    return uploads


async def _multipart(request: Request, limits: Limits) -> list[Upload]:
    parser = _MemoryParser(
        request.headers, request.stream(), max_files=limits.images, max_fields=1, max_part_size=1024
    )
    try:
        form = await parser.parse()
    except UnicodeError:  # the form's charset is none that text can have
        raise Problem(400, _DAMAGED) from None
    except MultiPartException as error:
        if "Too many files" in error.message:
            raise Problem(
                413, f"The request holds more than {limits.images} images; send several requests."
            ) from None
        if "Too many fields" in error.message or "maximum size" in error.message:
            raise Problem(422, _TEXT_FIELD) from None
        raise Problem(400, _DAMAGED) from None
    uploads = []
    for _, value in form.multi_items():
        if not isinstance(value, UploadFile):
            raise Problem(422, _TEXT_FIELD)
        uploads.append(Upload(await value.read(), clean_name(value.filename)))
        await value.close()
    return uploads


def clean_name(name: str | None) -> str | None:
    """A client's file name made safe to show: last part, printable, not endless; None if empty."""
    last = re.split(r"[/\\]", name or "")[-1]
    shown = "".join(c for c in last if unicodedata.category(c)[0] != "C").strip()
    return shown[:_NAME_LENGTH] or None
