"""``mien label``: faces sorted into classes on a page, and the table of the answers.

The table is written anew, atomically, before an answer is given, so that neither a reload nor a
kill loses one: it is all the state there is.
"""

from __future__ import annotations

import asyncio
import csv
import json
import os
import threading
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mien._system import file_stamp
from mien._version import __version__
from mien.atomic import write_bytes
from mien.errors import DataError, MienError, OutputError, first_line
from mien.images import read_frames
from mien.results import Box, Result
from mien.sources import find_images
from mien.text import NOT_UTF8, csv_line, csv_table, from_cell, printable
from mien.track import iou
from mien.web.guard import Guard
from mien.web.metrics import Metrics
from mien.web.page import add_page
from mien.web.problems import NO_STORE, Problem

if TYPE_CHECKING:
    from mien.pipeline import Analyzer
    from mien.web.settings import Settings

_BOX = ("box_x", "box_y", "box_width", "box_height")
COLUMNS = ("path", "label", *_BOX)
#: Longest name of a class, and most classes.
LONGEST, MOST = 1000, 1000
#: Two boxes of a photo that overlap so far are the same face.
SAME = 0.5
#: Side of the image of a face, and how many times the face's side it shows.
SIDE, AROUND = 560, 2.0
_CHUNK = 4


@dataclass(eq=False)
class _Face:
    """A face that was found, what the model says of it, and its row in the table if it has one."""

    number: int
    path: Path
    frame: int | None
    box: Box
    probabilities: dict[str, float]
    quality: float = 1.0
    row: dict[str, str] | None = None
    taken_back: dict[str, str] | None = None  # its columns are kept for the next answer

    @property
    def doubt(self) -> float:
        """1 where two classes are as likely, 0 where the model is sure or nothing can be seen."""
        second, first = sorted(self.probabilities.values())[-2:]
        return self.quality * (1 - (first - second))


class Labelling:
    """The faces of a folder and their classes; may be used from several threads.

    Args:
        photos: a folder, or one image.
        table: the CSV to write; what it holds is gone on with, further columns are kept.
        classes: names to begin with, before those of the table.

    Raises:
        DataError: ``table`` is another file.
        ImageError: ``photos`` holds none, or does not exist.
    """

    def __init__(self, photos: Path, table: Path, classes: Iterable[str] = ()) -> None:
        self.table = table
        self.columns, self.rows = _read(table)
        self._lines = [self._line(row) for row in self.rows]
        self._stamp = file_stamp(table)
        self._known: dict[str, list[dict[str, str]]] = {}
        for row in self.rows:
            self._known.setdefault(os.path.realpath(table.parent / row["path"]), []).append(row)
        self.paths: list[Path] = []
        self.left_out = 0
        for path in map(Path, find_images([photos])):
            try:
                os.fspath(path).encode()
                self.paths.append(path)
            except UnicodeEncodeError:  # a table is UTF-8
                self.left_out += 1
        names = [*map(_name, classes), *(row["label"] for row in self.rows)]
        self.classes = [name for name in dict.fromkeys(names) if name]
        self.faces: list[_Face] = []
        self.looked = 0
        self.done = False
        self._shown: _Face | None = None  # stays until it is answered, whatever is found
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def look(self, analyzer: Analyzer, faces: bool = False, workers: int = 1) -> None:
        """Find the faces of every photo, until :meth:`stop`."""

        def failed(name: str, error: MienError) -> None:
            self.left_out += 1
            self.looked += 1

        results = analyzer.analyze_many(
            self.paths, faces=faces, on_error=failed, chunk=_CHUNK, workers=workers
        )
        try:
            for result in results:
                if self._stop.is_set():
                    return
                with self._lock:
                    self._add(result)
        finally:
            self.done = True

    def stop(self) -> None:
        """End :meth:`look` soon."""
        self._stop.set()

    def _add(self, result: Result) -> None:
        self.looked += 1
        path = Path(result.source or "")
        known = self._known.get(os.path.realpath(path), ())
        rows = [(row, box) for row in known if (box := _box(row))]
        for found in result.faces:
            named = {str(label): p for label, p in found.probabilities.items()}
            face = _Face(
                len(self.faces), path, result.frame, found.box, named, found.quality or 0.0
            )
            face.row = next((row for row, box in rows if iou(box, face.box) >= SAME), None)
            self.faces.append(face)

    def _place(self, path: Path) -> str:
        """A photo as the table names it: from the table's folder, as ``mien finetune`` reads it."""
        try:
            # ".." leads from where a linked folder really is.
            folder = os.path.realpath(self.table.parent)
            place = os.path.relpath(os.path.abspath(path), folder)  # noqa: PTH100
        except ValueError:  # another drive
            place = str(path.resolve())
        return place.replace(os.sep, "/")

    def state(self) -> dict[str, Any]:
        with self._lock:
            waiting = [face for face in self.faces if face.row is None]
            if self._shown is None:
                self._shown = max(waiting, key=lambda f: f.doubt, default=None)
            face = self._shown
            counts = dict.fromkeys(self.classes, 0)
            for row in self.rows:
                if row["label"]:
                    counts[row["label"]] = counts.get(row["label"], 0) + 1
            return {
                "photos": len(self.paths),
                "looked": self.looked,
                "done": self.done,
                "left_out": self.left_out,
                "waiting": len(waiting),
                "labelled": sum(counts.values()),
                "skipped": len(self.rows) - sum(counts.values()),
                "classes": [{"name": name, "count": n} for name, n in counts.items()],
                "table": printable(self.table.name),
                "undo": bool(self.rows) and (not self.done or self._last() is not None),
                "face": face and self._described(face),
            }

    def _last(self) -> _Face | None:
        """The face of the table's last row, where it was found."""
        return next((f for f in reversed(self.faces) if f.row is self.rows[-1]), None)

    def _described(self, face: _Face) -> dict[str, Any]:
        known = {name: p for name, p in face.probabilities.items() if name in self.classes}
        guess = max(known, key=lambda name: known[name], default=None)
        place = printable(self._place(face.path))
        sure = known[guess] if guess is not None else 0.0
        return {"number": face.number, "photo": place, "guess": guess, "sure": round(sure, 4)}

    def answer(self, number: int, label: str) -> None:
        """Give face ``number`` a class, or none (""): it is skipped. Twice is the same as once.

        Raises:
            DataError: no such face, one that has another answer by now, or a name that cannot be
                one. OutputError: not written.
        """
        label = _name(label)
        with self._lock:
            if not 0 <= number < len(self.faces):
                raise DataError(f"There is no face {number}.")
            if label and label not in self.classes and len(self.classes) >= MOST:
                raise DataError(f"There are {MOST:,} classes already.")
            face = self.faces[number]
            if face.row is not None:
                if (before := face.row["label"]) != label:
                    said = f"called {printable(before)!r}" if before else "skipped"
                    raise DataError(f"That face was {said} meanwhile, on another page perhaps.")
                return
            box = map(str, face.box.to_dict().values())
            row = {
                **(face.taken_back or {}),
                "path": self._place(face.path),
                "label": label,
                **dict(zip(_BOX, box, strict=True)),
            }
            self._write([*self.rows, row], [*self._lines, self._line(row)])
            face.row, face.taken_back = row, None
            self._shown = None if face is self._shown else self._shown
            if label and label not in self.classes:
                self.classes.append(label)

    def undo(self) -> None:
        """Take the last answer back; its face comes next.

        Raises:
            DataError: there is none, or its face was not found, or not yet. OutputError: not
                written.
        """
        with self._lock:
            if not self.rows:
                raise DataError("There is no answer to take back.")
            face, place = self._last(), printable(self.rows[-1]["path"])
            if face is None and self.done:
                raise DataError(f"{place} has no such face here; change it in the table.")
            if face is None:
                raise DataError(f"{place} was not looked at yet; try again in a moment.")
            row = self.rows[-1]
            self._write(self.rows[:-1], self._lines[:-1])
            face.row, face.taken_back, self._shown = None, row, face

    def _line(self, row: dict[str, str]) -> str:
        return csv_line(row.get(name, "") for name in self.columns)

    def _write(self, rows: list[dict[str, str]], lines: list[str]) -> None:
        if file_stamp(self.table) != self._stamp:
            raise OutputError(
                f"{self.table} was changed by another program; start mien label again, which "
                "reads it anew."
            )
        write_bytes(self.table, "".join([csv_line(self.columns), *lines]).encode())
        self.rows, self._lines, self._stamp = rows, lines, file_stamp(self.table)

    def image(self, number: int) -> bytes:
        """JPEG of face ``number`` with what is around it. Raises MienError."""
        if not 0 <= number < len(self.faces):
            raise DataError(f"There is no face {number}.")
        face = self.faces[number]
        frames = read_frames(face.path)
        image = next(f.image for f in frames if f.number == face.frame or face.frame is None)
        box, reach = face.box, AROUND / 2 * max(face.box.width, face.box.height)
        left, top = (max(0, round(middle - reach)) for middle in box.center)
        right, bottom = (max(1, round(middle + reach)) for middle in box.center)
        view = image[top:bottom, left:right]
        scale = SIDE / max(view.shape[:2])
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        view = np.asarray(cv2.resize(view, None, fx=scale, fy=scale, interpolation=how), np.uint8)
        if max(image.shape[:2]) > max(box.width, box.height):  # else the photo is the face
            corner = (round((box.x - left) * scale), round((box.y - top) * scale))
            size = (round(box.width * scale), round(box.height * scale))
            cv2.rectangle(view, (*corner, *size), (255, 255, 255), 1, cv2.LINE_AA)
        return cv2.imencode(".jpg", view, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


def _name(text: str) -> str:
    """A class's name: composed, without blanks at its ends. Raises DataError: too long."""
    name = printable(unicodedata.normalize("NFC", text).strip())
    if len(name) > LONGEST:
        raise DataError(f"A class's name has at most {LONGEST:,} characters.")
    return name


def _box(row: dict[str, str]) -> Box | None:
    try:
        return Box(*(float(row[name]) for name in _BOX))
    except (KeyError, ValueError):
        return None


def _read(table: Path) -> tuple[tuple[str, ...], list[dict[str, str]]]:
    """The columns and rows of a table that was begun. Raises DataError: it is another file."""
    if not table.exists():
        return COLUMNS, []
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv_table(file, table.name))
    except UnicodeDecodeError:
        raise DataError(f"{table} {NOT_UTF8}") from None
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{table} cannot be gone on with ({first_line(error)}).") from None
    told = ((name, name.strip().lower()) for name in lines[0])
    header = tuple(low if low in COLUMNS else name for name, low in told) or COLUMNS
    if not set(COLUMNS) <= set(header):
        raise DataError(
            f"{table} is another table (columns: {printable(', '.join(header))}); name a new file."
        )
    if twice := [name for k, name in enumerate(header) if name in header[:k]]:
        raise DataError(f"{table} has two columns {printable(twice[0])!r}; give each its own name.")
    rows = [dict(zip(header, map(from_cell, line), strict=False)) for line in lines[1:] if line]
    return header, [{**dict.fromkeys(COLUMNS, ""), **row} for row in rows]


def create_label_app(work: Labelling, settings: Settings, model: str) -> Starlette:
    """The page and its three addresses behind the same door as ``mien serve``'s.

    Args:
        work: what is labelled.
        settings: who may call; give it a token.
        model: name of the model whose guesses are shown.
    """

    def told(call: Callable[[], None] = lambda: None) -> Response:
        try:
            call()
        except DataError as error:
            raise Problem(422, str(error)) from None
        except MienError as error:
            raise Problem(507, str(error)) from None
        return JSONResponse({**work.state(), "model": model}, headers=NO_STORE)

    async def state(request: Request) -> Response:
        return await asyncio.to_thread(told)

    async def answer(request: Request) -> Response:
        try:
            wanted = json.loads(await request.body())
            if wanted == {"undo": True}:
                return await asyncio.to_thread(told, work.undo)
            number, label = wanted["face"], wanted["label"]
            if type(number) is not int or type(label) is not str or len(wanted) != 2:
                raise TypeError
        except (ValueError, TypeError, KeyError, RecursionError):
            raise Problem(422, 'Send {"face": N, "label": "…"} or {"undo": true}.') from None
        return await asyncio.to_thread(told, lambda: work.answer(number, label))

    async def image(request: Request) -> Response:
        try:
            data = await asyncio.to_thread(work.image, int(request.path_params["number"]))
        except MienError as error:
            raise Problem(422, str(error)) from None
        return Response(data, media_type="image/jpeg", headers=NO_STORE)

    async def missing(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 404
        problem = Problem(status, "There is nothing under this address.")
        return Response(problem.body(), status, dict(problem.headers), "application/problem+json")

    app = Starlette(
        routes=[
            Route("/v1/label", state, methods=["GET"]),
            Route("/v1/label", answer, methods=["POST"]),
            Route("/v1/label/{number:int}", image, methods=["GET"]),
        ],
        exception_handlers={HTTPException: missing},
    )
    app.add_middleware(Guard, settings=settings, metrics=Metrics(__version__, model))
    add_page(app, (), "label.html")
    return app
