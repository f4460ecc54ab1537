"""What a Result offers at a prompt or in a notebook: tables, files, the annotated image.

A result holds no pixels. It remembers where its image came from: a path, or an array as long as
the caller keeps it. Modules above this one are reached when a method is called, never before.
"""

from __future__ import annotations

import base64
import html
import importlib
import json
import os
import weakref
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mien.errors import MienError, MissingExtraError, OutputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mien.emotions import Label

#: Suffixes of :meth:`Shown.save` that are images.
IMAGES = (".png", ".jpg", ".jpeg", ".webp")

_STDIN = "-"


def _above(module: str) -> Any:
    return importlib.import_module(f"mien.{module}")


@dataclass(frozen=True, slots=True)
class ImageSource:
    """Where an image can be had again: a file, or a weak reference to what was given."""

    place: str | weakref.ref[Any]
    stamp: tuple[int, int] | None = None
    color: str | None = None
    value_range: tuple[float, float] | None = None

    @classmethod
    def of(
        cls, image: Any, color: str | None, value_range: tuple[float, float] | None
    ) -> ImageSource | None:
        """None for what cannot be had again: a stream, a pipe, a data URL, or bytes."""
        if isinstance(image, (str, os.PathLike)):
            place = os.fsdecode(image)
            no_file = image == _STDIN or _above("sources").is_data_url(image)
            if no_file or not os.path.isfile(place):  # noqa: PTH113 - Path's raises for some names
                return None
            return cls(os.path.abspath(place), _above("_system").file_stamp(place))  # noqa: PTH100
        try:
            given = weakref.ref(image)
        except TypeError:
            return None
        return None if hasattr(image, "read") else cls(given, None, color, value_range)

    def read(self) -> Any:
        """What was given, or None where it is gone, or the file is another one by now."""
        if not isinstance(self.place, str):
            return self.place()
        return self.place if _above("_system").file_stamp(self.place) == self.stamp else None


class Shown:
    """The methods; :class:`mien.Result` is the one that has them."""

    __slots__ = ("_labels", "_origin")
    _origin: ImageSource | None
    _labels: tuple[Label, ...]

    def remember(self, origin: ImageSource | None, labels: tuple[Label, ...]) -> None:
        """Where the image of this result can be had again, and the model's classes. Not part of
        what is compared, pickled or written."""
        object.__setattr__(self, "_origin", origin)
        object.__setattr__(self, "_labels", labels)

    def to_df(self) -> Any:
        """A ``pandas.DataFrame``, one row per face, with the columns of ``to_csv``.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise MissingExtraError(
                "to_df needs pandas; install it with: pip install pandas"
            ) from None
        sinks = _above("sinks.rows")
        return pd.DataFrame(sinks.face_rows(self), columns=list(sinks.columns(*self._table())))

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write one row per face. Raises OutputError where that fails."""
        self._check_target(path)
        labels, video = self._table()
        with _above("sinks").CsvSink(path, labels=labels, video=video) as sink:
            sink.write(self)

    def save(
        self,
        path: str | os.PathLike[str],
        image: Any = None,
        *,
        color: str | None = None,
        value_range: tuple[float, float] | None = None,
    ) -> None:
        """Write this result; the suffix says as what.

        Args:
            path: ``.json``, ``.csv``, or ``.png``, ``.jpg`` or ``.webp`` for the annotated image.
            image: the image, where it cannot be had again: it was bytes or a stream, or the
                array is gone. What :meth:`mien.Analyzer.analyze` takes.
            color: "bgr" or "rgb"; must be given with a colour array.
            value_range: what is black and white in an array that is not uint8, e.g. (0, 1).

        Raises:
            OutputError: another suffix, the image is gone, the file is the image that was
                analysed, or it cannot be written.
        """
        self._check_target(path, image)
        suffix = Path(path).suffix.lower()
        if suffix == ".csv":
            self.to_csv(path)
        elif suffix == ".json":
            record = json.dumps(self.to_dict(), ensure_ascii=False, indent=2)  # type: ignore[attr-defined]
            _above("atomic").write_text(path, record + "\n")
        elif suffix in IMAGES:
            pixels = self._pixels_of("result.save(path, image=…)", image, color, value_range)
            _above("atomic").write_bytes(path, _above("sinks").annotated(pixels, self, suffix))
        else:
            known = ", ".join((".json", ".csv", *IMAGES))
            raise OutputError(f"{os.fspath(path)} ends in none of {known}.")

    def show(
        self,
        image: Any = None,
        *,
        color: str | None = None,
        value_range: tuple[float, float] | None = None,
    ) -> None:
        """Show the annotated image: in a notebook below the cell, else in the system's viewer.

        Args:
            image, color, value_range: as for :meth:`save`.

        Raises:
            OutputError: the image is gone.
        """
        import io

        from PIL import Image

        pixels = self._pixels_of("result.show(image=…)", image, color, value_range)
        shown = Image.open(io.BytesIO(_above("sinks").annotated(pixels, self, ".png")))
        try:
            from IPython import get_ipython
            from IPython.display import display
        except ImportError:
            shown.show()
        else:
            display(shown) if get_ipython() else shown.show()

    def _repr_png_(self) -> bytes | None:
        pixels = self._pixels()
        return None if pixels is None else bytes(_above("sinks").annotated(pixels, self, ".png"))

    def _repr_html_(self) -> str:
        pixels, image = self._pixels(), ""
        if pixels is not None:
            with suppress(OutputError):  # too long for JPEG, and a line at that width
                data = base64.b64encode(_above("sinks").annotated(pixels, self, ".jpg")).decode()
                image = f'<img style="max-width:640px" alt="" src="data:image/jpeg;base64,{data}">'
        rows = "".join(
            f"<tr><td>{number}</td><td>{html.escape(str(face.emotion))}</td>"
            f"<td>{face.confidence:.2f}</td></tr>"
            for number, face in enumerate(self.faces, 1)  # type: ignore[attr-defined]
        )
        head = "<tr><th>face</th><th>emotion</th><th>confidence</th></tr>"
        table = f"<table>{head}{rows}</table>" if rows else ""
        return f"<div><code>{html.escape(repr(self))}</code><br>{image}{table}</div>"

    def _check_target(self, path: str | os.PathLike[str], given: Any = None) -> None:
        """Raise OutputError where ``path`` is the file of the image, or of the one ``given``."""
        origin, real_path = getattr(self, "_origin", None), _above("sources").real_path
        if origin is None:  # a stream, or a result that was pickled: its name is all there is
            kept = self.source  # type: ignore[attr-defined]
            kept = kept if kept and os.path.exists(kept) else None  # noqa: PTH110 - see above
        else:
            kept = origin.place if isinstance(origin.place, str) else origin.read()
        for image in (given, kept):
            own = image  # files have a name, and Pillow's images a file's
            if not isinstance(image, (str, os.PathLike)):
                own = getattr(image, "filename", None) or getattr(image, "name", None)
            if not isinstance(own, (str, bytes, os.PathLike)) or not own:
                continue
            if real_path(os.fsdecode(own)) == real_path(path):
                name = os.fspath(path)
                raise OutputError(f"{name} is the image that was read; choose another name.")

    def _pixels_of(
        self, call: str, image: Any, color: str | None, value_range: tuple[float, float] | None
    ) -> NDArray[np.uint8]:
        pixels = self._pixels(image, color, value_range)
        if pixels is None:
            raise OutputError(f"The image of this result is gone; give it: {call}.")
        return pixels

    def _pixels(
        self,
        image: Any = None,
        color: str | None = None,
        value_range: tuple[float, float] | None = None,
    ) -> NDArray[np.uint8] | None:
        """The image as uint8 (H, W, 3) BGR; None where it is gone or cannot be read."""
        given = image is not None
        if not given:
            origin = getattr(self, "_origin", None)
            if origin is None or (image := origin.read()) is None:
                return None
            color, value_range = origin.color, origin.value_range
        size = (self.width, self.height)  # type: ignore[attr-defined]
        try:
            for frame in _above("images").frames_of(image, color, None, value_range):
                if frame.number in (None, self.frame):  # type: ignore[attr-defined]
                    pixels: NDArray[np.uint8] = frame.image
                    if pixels.shape[1::-1] == size:
                        return pixels
                    break
        except MienError:
            if given:
                raise
        if given:
            raise OutputError(
                f"That is not the image of this result, which has {size[0]}×{size[1]}."
            )
        return None  # another file of that name by now

    def _table(self) -> tuple[Any, bool]:
        """Classes and kind of the table of this result."""
        faces: Any = self.faces  # type: ignore[attr-defined]
        other = getattr(self, "_labels", _above("emotions").FER2013)
        labels = tuple(faces[0].probabilities) if faces else other
        return labels, self.time is not None  # type: ignore[attr-defined]
