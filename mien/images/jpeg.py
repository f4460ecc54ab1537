"""JPEGs that break off: some recorders leave out the marker at the end, some copies much more."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

SCAN, END = b"\xff\xda\0", b"\xff\xd9"

#: Bytes that decode to other pixels than what a decoder puts where data are missing: zeros, or
#: grey. No marker is among them.
_JUNK = bytes(range(254, 0, -1))

#: Rows that are compared at a time.
_ROWS = 64


def ended(data: bytes, image: Any, reopen: Callable[[bytes], Any]) -> Any:
    """A JPEG without its end marker, decoded as if it had one.

    A decoder makes up what is missing before the marker and does not tell. So it is decoded twice,
    once with junk behind its data: what is whole does not change by that.

    Args:
        image: the opened file, nothing of it read behind the first scan's header.
        reopen: opens other bytes in the same way.

    Raises:
        EOFError: pixels are missing, or only rough.
    """
    if not _every_scan(data, image):
        raise EOFError
    ways = []
    for ending in _endings(data.rstrip(b"\xff")):  # half a marker
        way = reopen(ending)
        way.fp.allow(len(ending), image.width * image.height)
        way.load()
        ways.append(way)
    for top in range(0, image.height, _ROWS):
        box = (0, top, image.width, min(top + _ROWS, image.height))
        one, other = (way.crop(box).tobytes() for way in ways)
        if one != other:
            raise EOFError
    return ways[0]


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


def _endings(data: bytes) -> Iterator[bytes]:
    yield data + END
    # Junk is skipped where the data stop between two restart markers: there the next one is due.
    last = max(data.rfind(bytes((0xFF, 0xD0 + n))) for n in range(8))
    due = (data[last + 1] - 0xD0 + 1) % 8 if last >= 0 else 0
    yield data + _JUNK + bytes((0xFF, 0xD0 + due)) + _JUNK + END
