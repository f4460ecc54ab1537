"""JPEGs that break off: some recorders leave out the marker at the end, some copies much more, or
put zeros there."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import product
from typing import Any

SCAN, END = b"\xff\xda\0", b"\xff\xd9"

#: Bytes that decode to other pixels than what a decoder puts where data are missing: zeros, or
#: grey. No marker is among them.
_JUNK = bytes(range(254, 0, -1))

#: So many zeros at the end of the data are seldom data.
_ZEROS = bytes(16)

#: Rows that are compared at a time.
_ROWS = 64


def end_of(data: bytes, at: int) -> tuple[int, bool]:
    """Where a JPEG's data end, looked for from ``at``; and whether a marker says so, with no run of
    zeros before it."""
    end = data.find(END, at)
    return (end, not data.endswith(_ZEROS, at, end)) if end >= 0 else (len(data), False)


def ended(data: bytes, image: Any, reopen: Callable[[bytes], Any]) -> Any:
    """A JPEG whose end is not sure, decoded as if it were whole.

    A decoder makes up what is missing before the marker and does not tell. So it is decoded twice,
    once with junk behind its data: what is whole does not change by that.

    Zeros at the end are what some copies have in place of the data; they decode to blocks, and all
    is there. They may stand behind whole data, or be data, of one even colour: then all are needed.

    Args:
        image: the opened file, nothing of it read behind the first scan's header.
        reopen: opens other bytes in the same way.

    Raises:
        EOFError: pixels are missing, or only rough.
    """
    data = data[: end_of(data, image.fp.tell())[0]].rstrip(b"\xff")  # half a marker
    if not _every_scan(data, image):
        raise EOFError

    def decoded(data: bytes) -> Any:
        way = reopen(data)
        way.fp.allow(len(data), image.width * image.height)
        way.load()
        return way

    whole = decoded(data + END)

    def lacks_nothing(data: bytes) -> bool:
        return _alike(whole, decoded(_with_junk(data)))

    zeros = data.endswith(_ZEROS)
    if lacks_nothing(data.rstrip(b"\0") + b"\0" if zeros else data):  # one may be data
        return whole
    if zeros and lacks_nothing(data) and not lacks_nothing(data[: -len(_ZEROS) // 2]):
        return whole
    raise EOFError


def _alike(one: Any, other: Any) -> bool:
    boxes = (
        (0, top, one.width, min(top + _ROWS, one.height)) for top in range(0, one.height, _ROWS)
    )
    return all(one.crop(box).tobytes() == other.crop(box).tobytes() for box in boxes)


def _every_scan(data: bytes, image: Any) -> bool:
    """Whether the scans give every coefficient of every component in full."""
    left = set(product([layer[0] for layer in image.layer], range(64)))
    first = data.rfind(SCAN, 0, image.fp.tell())
    for scan in re.finditer(SCAN, data[first:]):
        head = data[first + scan.end() : first + scan.end() + 13]
        if len(head) < 5 or len(head) < 5 + 2 * head[1]:
            return False
        begin, end, bits = head[2 + 2 * head[1] : 5 + 2 * head[1]]
        if not bits & 15:
            left.difference_update(product(head[2 : 2 + 2 * head[1] : 2], range(begin, end + 1)))
    return not left


def _with_junk(data: bytes) -> bytes:
    # Junk is skipped where the data stop between two restart markers: there the next one is due.
    last = max(data.rfind(bytes((0xFF, 0xD0 + n))) for n in range(8))
    due = (data[last + 1] - 0xD0 + 1) % 8 if last >= 0 else 0
    return data + _JUNK + bytes((0xFF, 0xD0 + due)) + _JUNK + END
