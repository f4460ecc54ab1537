"""Detect, crop, classify: pictures in, frozen Results out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, overload

import numpy as np
from numpy.typing import NDArray

from mien import sources, zoo
from mien.backend import Provider
from mien.classify import load_classifier
from mien.detect import Detection, Detector, load_detector
from mien.errors import MienError, ModelError
from mien.images import as_bgr, read_image
from mien.modelinfo import ModelInfo
from mien.preprocess import crop_face, whole_face
from mien.results import Box, Face, Result

#: A path, "-" (standard input), encoded bytes, a binary file, or a uint8 array.
ImageLike = str | Path | bytes | BinaryIO | NDArray[np.uint8]

#: Pictures per classifier call in :meth:`Analyzer.analyze_many`: only crops are kept of them.
CHUNK = 32


@dataclass(frozen=True, slots=True)
class Found:
    """A picture after detection: what :meth:`Analyzer.find` hands to :meth:`Analyzer.classify`.

    Nothing of the picture is kept but its faces' crops, uint8 (input_size, input_size), grey.
    """

    source: str | None
    width: int
    height: int
    detector: str
    detections: tuple[Detection, ...]
    crops: tuple[NDArray[np.uint8], ...]


class Analyzer:
    """Finds faces and names their expressions. Build it once; it may be shared between threads.

    Args:
        model: a shipped model's name or an ``.onnx`` file.
        detector: "yunet", "haar", or any object with ``name`` and ``detect(bgr)``.
        min_face: side of the smallest face to find, as a fraction of the picture's long side.
        min_score: lowest detection score, 0..1; None takes the detector's default.
        min_confidence: leave out faces whose most probable class is below this, 0..1.
        flip: average with the mirrored face: slower, slightly more accurate.
        threads: threads of the classifier; None takes every core.
        providers: where the classifier runs: "cpu", "cuda", "directml", "coreml", "openvino",
            "auto" (the best that is there), or onnxruntime's own providers, best first.

    May be used in a forked child, and pickled: its models are loaded anew there.

    Raises:
        ModelError: unknown or unusable model or detector, a value out of range, or a device that
            this onnxruntime does not have.
    """

    def __init__(
        self,
        model: str | Path = zoo.DEFAULT,
        detector: str | Detector = "yunet",
        *,
        min_face: float = 0.05,
        min_score: float | None = None,
        min_confidence: float = 0.0,
        flip: bool = False,
        threads: int | None = None,
        providers: str | Sequence[Provider] = "cpu",
    ) -> None:
        if not 0 <= min_confidence <= 1:
            raise ModelError(f"min_confidence is {min_confidence}; expected 0 to 1.")
        self.min_confidence = min_confidence
        self.flip = flip
        self.classifier = load_classifier(model, threads, providers)
        self.detector: Detector = (
            load_detector(detector, min_face, min_score) if isinstance(detector, str) else detector
        )

    @property
    def info(self) -> ModelInfo:
        """What the classifier says about itself."""
        return self.classifier.info

    def analyze(
        self,
        image: ImageLike,
        *,
        color: str | None = None,
        faces: bool = False,
        source: str | None = None,
    ) -> Result:
        """Analyse one picture.

        Args:
            image: a path, "-" for standard input, encoded bytes, a binary file, or uint8 array
                (H, W), (H, W, 3) or (H, W, 4).
            color: "bgr" or "rgb"; must be given for colour arrays, ignored for files.
            faces: the picture already is one face: detect nothing, classify the whole.
            source: what to call the picture in the result and in errors; the path by default.

        Returns:
            The faces, largest first; none is an answer, not an error.

        Raises:
            ImageError: the picture cannot be read.
        """
        return self.classify([self.find(image, color, faces, source)])[0]

    def analyze_many(
        self,
        images: Iterable[ImageLike],
        *,
        color: str | None = None,
        faces: bool = False,
        on_error: Callable[[str, MienError], None] | None = None,
        chunk: int = CHUNK,
    ) -> Iterator[Result]:
        """Analyse pictures lazily, in order; all faces of ``chunk`` pictures in one call.

        Memory stays bounded: one decoded picture and the crops of one chunk at a time.

        Args:
            images, color, faces: see :meth:`analyze`.
            on_error: called with (name, error) for a picture that cannot be read, which is then
                skipped; None raises.
            chunk: pictures per classifier call.
        """
        if isinstance(images, (str, bytes, Path)):
            raise ModelError("analyze_many takes a list of pictures; for one there is analyze.")
        if chunk < 1:
            raise ModelError(f"chunk is {chunk}; expected 1 or more.")
        return self._stream(enumerate(images), color, faces, on_error, chunk)

    def _stream(
        self,
        images: Iterator[tuple[int, ImageLike]],
        color: str | None,
        faces: bool,
        on_error: Callable[[str, MienError], None] | None,
        chunk: int,
    ) -> Iterator[Result]:
        while True:
            found, taken = [], 0
            for index, image in islice(images, chunk):
                taken += 1
                try:
                    found.append(self.find(image, color, faces, None))
                except MienError as error:
                    if on_error is None:
                        raise
                    on_error(_name(image) or f"picture {index}", error)
                del image  # an array is freed once its crops are taken
            if not taken:
                return
            yield from self.classify(found)

    def find(
        self,
        image: ImageLike,
        color: str | None = None,
        faces: bool = False,
        source: str | None = None,
    ) -> Found:
        """The first half of :meth:`analyze`: detect and crop. Same arguments, same errors."""
        name = source if source is not None else _name(image)
        if isinstance(image, np.ndarray):
            bgr = as_bgr(image, color, name or "the array")
        elif isinstance(image, str) and image == sources.STDIN:
            bgr = read_image(sources.read_stdin(), name=name)
        else:
            bgr = read_image(image, name=name)
        height, width = bgr.shape[:2]
        if faces:
            whole = Detection(Box(0.0, 0.0, float(width), float(height)))
            return Found(name, width, height, "none", (whole,), (whole_face(bgr, self.info),))
        detections = self.detector.detect(bgr)
        crops = tuple(crop_face(bgr, d, self.info) for d in detections)
        return Found(name, width, height, self.detector.name, detections, crops)

    def classify(self, found: Sequence[Found]) -> list[Result]:
        """The second half: the faces of several pictures in one call; a Result each, in order."""
        crops = [crop for picture in found for crop in picture.crops]
        rows: list[list[float]] = []
        if crops:
            rows = self.classifier.predict_proba(np.stack(crops), flip=self.flip).tolist()
        labels, results, at = self.info.labels, [], 0
        for picture in found:
            faces = []
            for detection in picture.detections:
                p = dict(zip(labels, rows[at], strict=True))
                at += 1
                if max(p.values()) >= self.min_confidence:
                    faces.append(Face(detection.box, p, detection.score, detection.landmarks))
            results.append(
                Result(
                    faces=tuple(faces),
                    width=picture.width,
                    height=picture.height,
                    source=picture.source,
                    model=self.info.name,
                    detector=picture.detector,
                )
            )
        return results


@overload
def predict(image: ImageLike, **options: Any) -> Result: ...
@overload
def predict(image: list[Any] | tuple[Any, ...], **options: Any) -> list[Result]: ...
def predict(
    image: ImageLike | list[ImageLike] | tuple[ImageLike, ...],
    *,
    model: str | Path = zoo.DEFAULT,
    detector: str = "yunet",
    color: str | None = None,
    faces: bool = False,
    **options: Any,
) -> Result | list[Result]:
    """Find the faces of a picture, or of each of a list, and name their expressions.

    The analyser is kept for the next call with the same model, detector and options.

    Args:
        image: a path, encoded bytes, a binary file or a uint8 array; or a list of them.
        model: a shipped model's name or an ``.onnx`` file.
        detector: "yunet" (default) or "haar".
        color: "bgr" or "rgb"; must be given for colour arrays.
        faces: the pictures already are faces: detect nothing.
        options: further arguments of :class:`Analyzer` (``min_face``, ``min_confidence``, …).

    Returns:
        A :class:`Result`, or a list of them in the order given.

    Raises:
        ImageError: a picture cannot be read.
        ModelError: unknown or unusable model, detector or option value.
    """
    analyzer = _analyzer(str(model), _stamp(model), detector, tuple(sorted(options.items())))
    if isinstance(image, (list, tuple)):
        return list(
            analyzer.analyze_many(image, color=color, faces=faces, chunk=max(1, len(image)))
        )
    return analyzer.analyze(image, color=color, faces=faces)


def _stamp(model: str | Path) -> tuple[int, int] | None:
    """What changes when a file is written anew: an exported model keeps its name in a notebook."""
    try:
        status = Path(model).stat()
    except OSError:
        return None  # a shipped model's name, or the error that follows
    return status.st_mtime_ns, status.st_size


@functools.lru_cache(maxsize=4)
def _analyzer(
    model: str,
    stamp: tuple[int, int] | None,
    detector: str,
    options: tuple[tuple[str, Any], ...],
) -> Analyzer:
    return Analyzer(model, detector, **dict(options))


def _name(image: ImageLike) -> str | None:
    if isinstance(image, str) and image == sources.STDIN:
        return "standard input"
    if isinstance(image, (str, Path)):
        return str(image)
    name = getattr(image, "name", None)
    return name if isinstance(name, str) else None
