"""Exceptions for user errors: one sentence that names the file or value and what to do.

The command line prints the message to stderr and exits with code 2; no traceback is shown.
"""

from __future__ import annotations

from collections.abc import Iterable

from mien.text import shown


class MienError(Exception):
    """Base of every error that mien raises on purpose. Its text is safe to print."""

    exit_code = 2

    def __str__(self) -> str:
        return shown(super().__str__())


class ImageError(MienError):
    """An image cannot be read or is not usable."""


class VideoError(MienError):
    """A video cannot be read, or a stopped run cannot be gone on with."""


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


def missing(modules: tuple[str, ...]) -> list[str]:
    """Those of the importable names that are not installed, looked up without importing them."""
    import importlib.util

    return [m for m in modules if importlib.util.find_spec(m) is None]


def require_extra(extra: str, modules: tuple[str, ...], what: str) -> None:
    """Raise MissingExtraError when an optional dependency of ``what`` is not installed.

    Args:
        extra: name of the extra, e.g. "train".
        modules: importable names, looked up without importing them.
        what: the user's word for what needs them, e.g. "`mien train`".
    """
    if lost := missing(modules):
        raise MissingExtraError(
            f"{what} needs {', '.join(lost)}; install it with: pip install 'mien[{extra}]'"
        )


#: What the base install brings: importable name -> what pip calls it.
_BASE = {
    "cv2": "opencv-python-headless>=4.8,<5",
    "numpy": "numpy>=1.26",
    "PIL": "pillow>=12",
    "rich": "rich>=13",
    "typer": "typer>=0.12,<0.29",
}


def package_problem(error: BaseException) -> MissingExtraError | None:
    """The sentence for a base dependency that is missing or broken; None for any other error.

    OpenCV's four packages share one folder: removing one of them takes files of the others.
    """
    text = first_line(error)
    if isinstance(error, ModuleNotFoundError) and error.name in _BASE:
        needed = _BASE[error.name]
        return MissingExtraError(
            f"mien needs {error.name}, which is not installed; pip install '{needed}'"
        )
    broken = isinstance(error, ImportError) and ("libGL" in text or "cv2" in text)
    if broken or (isinstance(error, AttributeError) and "module 'cv2' has no" in text):
        return MissingExtraError(
            f"This OpenCV cannot be used ({text}); remove every opencv package and reinstall one: "
            f"pip install --force-reinstall '{_BASE['cv2']}' (docs/install.md)"
        )
    return None


def check_count(
    name: str, value: object, error: type[MienError] = ModelError, *, least: int = 1
) -> None:
    """Raise ``error`` unless the argument ``name`` is a whole number, ``least`` or more."""
    import operator

    try:
        whole = operator.index(value) >= least  # type: ignore[arg-type]
    except TypeError:
        whole = False
    if not whole:
        raise error(f"{name} is {value!r}; expected a whole number, {least} or more.")


def nearest(word: str, known: Iterable[str], otherwise: str | None = None) -> str:
    """ "; did you mean 'x'?", or ``otherwise``, by default the list of what is known.

    The end of a sentence that says that ``word`` is unknown.
    """
    import difflib

    names = [str(name) for name in known]
    near = difflib.get_close_matches(str(word), names, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known: {', '.join(names)}." if otherwise is None else otherwise


def first_line(error: BaseException) -> str:
    """The first line of an error's text, without its full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
