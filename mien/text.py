"""Text from outside, made fit to be shown: on a terminal, in a log, in a cell of a table.

File names, labels and metadata are anybody's: they may hold a terminal's control sequences, line
breaks, marks that turn the writing direction, bytes that are no text, passwords of addresses, or a
spreadsheet's formula. Whatever leaves mien for a reader goes through one of these functions.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import chain

#: Categories that are never shown: control, format, surrogate, unassigned, line and paragraph ends.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Cn", "Zl", "Zp"})
#: Except these, which scripts and emoji need: zero-width joiner and non-joiner.
_JOINERS = frozenset("\u200c\u200d")
#: What a spreadsheet takes for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
#: A negative number is none.
_NUMBER = re.compile(r"-\d+(\.\d+)?(e[+-]?\d+)?", re.ASCII)
_USER_INFO = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^\s/?#]*@")


def printable(text: object) -> str:
    r"""``text`` with everything that is not plainly visible written as ``\xXX`` or ``\uXXXX``.

    Bytes of a file name that are no UTF-8 become ``\udcXX``. Plain text comes back unchanged.

    Args:
        text: what to show; anything but a string is turned into one.
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(c if _visible(c) else _escape(c) for c in text)


def _visible(c: str) -> bool:
    return c in _JOINERS or unicodedata.category(c) not in _HIDDEN


def _escape(c: str) -> str:
    code = ord(c)
    return (
        f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"
    )


def is_text(name: str) -> bool:
    """Whether ``name`` is UTF-8. OpenCV crashes at bytes of a file name that are none."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def brief(name: str, most: int = 32) -> str:
    """``name`` as a terminal shows it, not longer than ``most``."""
    plain = printable(name)
    return plain if len(plain) <= most else f"{plain[: most - 1]}…"


def cut(name: str, most: int) -> str:
    """The beginning of a file's ``name`` that takes ``most`` bytes at most."""
    while len(os.fsencode(name)) > most:
        name = name[:-1]
    return name


def drawable(name: str, most: int = 24) -> str:
    """``name`` in what OpenCV's stroke fonts can draw, ASCII, and not longer than ``most``.

    Accents go; what has no Latin letter is a "?". Tables and pages show the whole name.
    """
    plain = unicodedata.normalize("NFKD", name)
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    plain = "".join(c if 32 <= ord(c) < 127 else "?" for c in plain)
    return plain if len(plain) <= most else f"{plain[: most - 2]}.."


def counted(number: int, word: str) -> str:
    """ "1 face", "2,000 faces"."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def clock(seconds: float) -> str:
    """75.5 -> "1:15", with hours where there are any."""
    whole = int(max(0.0, seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def json_line(record: object) -> str:
    """``record`` as one line of JSON, its end included, without a character that is not visible.

    Those are escaped as JSON does it, so that what is read again is the same.
    """
    line = json.dumps(record, ensure_ascii=False, allow_nan=False)
    if not line.isprintable():
        line = "".join(c if _visible(c) else json.dumps(c)[1:-1] for c in line)
    return line + "\n"


def without_credentials(address: str) -> str:
    """``address`` with the user and password of its URLs masked: ``http://***@host/``."""
    return _USER_INFO.sub(r"\1***@", address)


def shown(address: str) -> str:
    """A file's name or an address as tables, messages and logs show it."""
    return printable(without_credentials(address))


def csv_line(cells: Iterable[object]) -> str:
    """One line of CSV, ``\\n`` included; None is an empty cell, text is never a formula.

    A cell of text that a spreadsheet would calculate, unless it is a plain negative number, gets an
    apostrophe before it, which :func:`from_cell` takes off again.
    """
    line = io.StringIO(newline="")
    csv.writer(line).writerow(map(_cell, cells))  # "\r\n" at the end, so that both are quoted
    return line.getvalue()[:-2] + "\n"


#: What is wrong with a table that an older spreadsheet saved.
NOT_UTF8 = "is not UTF-8; save it anew as CSV UTF-8."


def csv_table(lines: Iterable[str], name: str) -> Iterator[list[str]]:
    """The rows of the table called ``name``, its header first.

    Tabs part the columns of a ``.tsv``, else commas; or semicolons, as European spreadsheets write,
    or tabs, where the header has no second column without them.

    Raises:
        csv.Error: it is no table; while rows are read too.
    """
    lines = iter(lines)
    first = next(lines, "")
    order = "\t" if name.lower().endswith(".tsv") else ",;\t"
    parts = (by for by in order if len(next(csv.reader([first], delimiter=by), ())) > 1)
    return csv.reader(chain([first], lines), delimiter=next(parts, order[0]))


def is_formula(value: object) -> bool:
    """Whether a spreadsheet would calculate ``value``, be it after apostrophes."""
    return isinstance(value, str) and value.lstrip("'").startswith(_FORMULA)


def _cell(value: object) -> object:
    if value is None:
        return ""
    return f"'{value}" if is_formula(value) and not _NUMBER.fullmatch(str(value)) else value


def from_cell(text: str) -> str:
    """The text that :func:`csv_line` wrote as ``text``."""
    return text[1:] if text.startswith("'") and is_formula(text) else text
