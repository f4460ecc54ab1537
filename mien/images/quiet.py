"""Keeps what Pillow and its libtiff say about damaged files off standard error."""

from __future__ import annotations

import ctypes
import functools
import logging
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

#: What is not printed while at least one thread decodes; see :func:`quiet`.
_FILTER = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
_LOGGER = logging.getLogger("PIL.TiffImagePlugin")
_lock = threading.Lock()
_decoding = 0
_handler: Any = None


def _never(record: object) -> bool:
    return False


@contextmanager
def quiet() -> Iterator[None]:
    """Keep remarks on damage off standard error: Pillow's warnings, and what libtiff prints.

    warnings.catch_warnings would leave the filters wrong where two threads overlap.
    """
    global _decoding, _handler
    filters: Any = warnings.filters
    with _lock:
        _decoding += 1
        if _decoding == 1:
            filters.insert(0, _FILTER)
            _LOGGER.addFilter(_never)
            _handler = _libtiff_handler()(None)
    try:
        yield
    finally:
        with _lock:
            _decoding -= 1
            if _decoding == 0:
                _libtiff_handler()(_handler)
                _LOGGER.removeFilter(_never)
                if _FILTER in filters:
                    filters.remove(_FILTER)


@functools.cache
def _libtiff_handler() -> Callable[[Any], Any]:
    """Sets the function that Pillow's libtiff prints errors with and gives the one before; one
    that does nothing where it cannot be reached."""
    from PIL import _imaging

    try:
        set_handler: Any = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
    except (AttributeError, OSError):
        return lambda handler: None
    set_handler.restype, set_handler.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    return lambda handler: set_handler(handler)
