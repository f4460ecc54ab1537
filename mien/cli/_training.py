"""What the commands that train share: their options' values, and where their lines go."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mien.errors import RecipeError

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "32", "bf16")


def check_choice(option: str, value: str | None, known: Sequence[str | None]) -> None:
    """Raise RecipeError where ``--option`` has a value that is not known; None is "not given"."""
    if value in known:
        return
    *rest, last = (name for name in known if name)
    names = f"{', '.join(rest)} or {last}" if rest else last
    raise RecipeError(f"--{option} must be {names}, not {value!r}.")


def printer() -> Callable[[str], None]:
    """Prints lines on standard error as they are, without markup or wrapping."""
    from rich.console import Console

    console = Console(stderr=True)
    return lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True)
