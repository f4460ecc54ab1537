"""PGM and PPM, whose numbers Pillow reads one by one in Python."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.images.pixels import Pixels, to_eight


def raster(image: Any, data: bytes) -> Pixels:
    """The pixels of an opened PGM or PPM, 0 to 255. Raises ValueError: some are missing."""
    kind, _, offset, args = image.tile[0]
    maximum, shape = args[-1], (image.height, image.width, *([3] if image.mode == "RGB" else []))
    count = int(np.prod(shape))
    if kind == "ppm":
        dtype = np.dtype(">u2" if maximum > 255 else "u1")
        values: NDArray[Any] = np.frombuffer(data, dtype, count, offset)
    else:
        text = re.sub(rb"#[^\r\n]*", b"", data[offset:])
        values = np.fromstring(text, np.uint16, count, sep=" ")
    if len(values) < count:
        raise ValueError("truncated")
    return to_eight(values.reshape(shape), None if maximum == 65535 else maximum)
