"""Exceptions for user errors: one sentence that names the file or value and what to do.

The command line prints the message to stderr and exits with code 2; no traceback is shown.
"""

from __future__ import annotations

from mien.text import shown


class MienError(Exception):
    """Base of every error that mien raises on purpose. Its text is safe to print."""

    exit_code = 2

    def __str__(self) -> str:
        return shown(super().__str__())


class ImageError(MienError):
    """A picture cannot be read or is not usable."""


class VideoError(MienError):
    """A film cannot be read, or a stopped run cannot be gone on with."""


class DataError(MienError):
    """A dataset, a label or a split is missing, malformed or contradictory."""


class ModelError(MienError):
    """A model file or name is unknown, damaged or not mien's."""


class OutputError(MienError):
    """A result cannot be written (folder missing, disk full, no permission)."""


class RecipeError(MienError):
    """A training recipe or one of its ``--set`` keys is unknown or out of range."""


class MissingExtraError(MienError):
    """An optional dependency is needed: the message names the extra to install."""


def require_extra(extra: str, modules: tuple[str, ...], what: str) -> None:
    """Raise MissingExtraError when an optional dependency of ``what`` is not installed.

    Args:
        extra: name of the extra, e.g. "train".
        modules: importable names, looked up without importing them.
        what: the user's word for what needs them, e.g. "`mien train`".
    """
    import importlib.util

    missing = [m for m in modules if importlib.util.find_spec(m) is None]
    if missing:
        raise MissingExtraError(
            f"{what} needs {', '.join(missing)}; install it with: pip install 'mien[{extra}]'"
        )


def first_line(error: BaseException) -> str:
    """The first line of an error's text, without its full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
