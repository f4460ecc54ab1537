"""Detect, crop, classify: images in, frozen Results out."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice, repeat
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from mien import covered, sources, zoo
from mien._system import file_stamp
from mien._version import __version__
from mien.classify import load_classifier
from mien.detect import Detection, Detector, load_detector
from mien.errors import ImageError, MienError, ModelError, check_count
from mien.images import Source, frames_of
from mien.images.codecs import Frame
from mien.modelinfo import ModelInfo, prior_weights
from mien.onnxfile.runtime import Provider
from mien.preprocess import crop_face, smoothed, whole_face
from mien.quality import is_unsure, measure
from mien.results import Box, Face, Quality, Result
from mien.results.shown import ImageSource

#: A path, "-" (standard input), a data URL, encoded bytes, a binary file, or pixels: a numpy array,
#: a torch or JAX tensor, a PIL image.
ImageLike = Source | NDArray[Any] | Any

#: Frames of an animation that are looked at for a face, and their pixels in all.
LOOK = 32
LOOK_PIXELS = 1 << 25

#: Images per classifier call in :meth:`Analyzer.analyze_many`: only crops are kept of them.
CHUNK = 32


@dataclass(frozen=True, slots=True)
class Found:
    """An image after detection: what :meth:`Analyzer.find` hands to :meth:`Analyzer.classify`.

    Nothing of the image is kept but its faces' crops, uint8 (input_size, input_size), grey, and
    where it can be had again as long as it exists.
    """

    source: str | None
    width: int
    height: int
    detector: str
    detections: tuple[Detection, ...]
    crops: tuple[NDArray[np.uint8], ...]
    qualities: tuple[Quality, ...]
    frame: int | None = None
    origin: ImageSource | None = None


def first_frames(frames: Iterable[Frame]) -> Iterator[Frame]:
    """Those that are looked at for a face; a damaged one behind a sound one ends them."""
    pixels = 0
    try:
        for frame in islice(frames, LOOK):
            yield frame
            pixels += frame.image.shape[0] * frame.image.shape[1]
            if pixels > LOOK_PIXELS:
                return
    except ImageError:
        if not pixels:
            raise


class Analyzer:
    """Finds faces and names their expressions. Build it once; it may be shared between threads.

    Args:
        model: a shipped model's name or an ``.onnx`` file.
        detector: "yunet", "haar", or any object with ``name`` and ``detect(bgr)``.
        min_face: side of the smallest face to find, as a fraction of the image's long side; None
            looks as closely as is cheap (:func:`mien.detect.load_detector`). For videos there is
            ``mien.detect.VIDEO_MIN_FACE``.
        turns: where no face is surely upright, look at the turned image too; for still photos.
        min_score: lowest detection score, 0..1; None takes the detector's default.
        min_confidence: leave out faces whose most probable class is below this, 0..1.
        min_quality: leave out faces whose quality is below this, 0..1.
        flip: average with the mirrored face: slower, slightly more accurate.
        prior: how frequent the classes are: "balanced" (all alike), "fer2013" (as in its Training
            split) or None (as in the model's training). The probabilities are weighted anew
            (:func:`mien.modelinfo.prior_weights`).
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
        min_face: float | None = None,
        min_score: float | None = None,
        min_confidence: float = 0.0,
        min_quality: float = 0.0,
        turns: bool = True,
        flip: bool = False,
        threads: int | None = None,
        providers: str | Sequence[Provider] = "cpu",
        prior: str | None = None,
    ) -> None:
        for name, value in (("min_confidence", min_confidence), ("min_quality", min_quality)):
            if not 0 <= value <= 1:
                raise ModelError(f"{name} is {value}; expected 0 to 1.")
        self.min_confidence, self.min_quality = min_confidence, min_quality
        self.flip, self.prior = flip, prior
        self.classifier = load_classifier(model, threads, providers)
        if prior is not None:
            prior_weights(self.info, prior)  # refuses what it does not know
        if isinstance(detector, str):
            detector = load_detector(detector, min_face, min_score, turns)
        if isinstance(detector, type) or not isinstance(detector, Detector):
            known = "'yunet', 'haar' or an object with name and detect(bgr)"
            raise ModelError(f"detector is {detector!r}; expected {known}.")
        self.detector: Detector = detector
        covered.load()  # a broken installation is no photo's error

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
        value_range: tuple[float, float] | None = None,
    ) -> Result:
        """Analyse one image: of an animation's file, the first of 32 frames with a face.

        Args:
            image: a path, "-" for standard input, a data URL, encoded bytes, a binary file, a PIL
                image (the frame at which it stands), or an array or tensor (H, W), (H, W, 3) or
                (H, W, 4), channels last or first.
            color: "bgr" or "rgb"; must be given for colour arrays, ignored for files.
            faces: the image already is one face: detect nothing, classify the whole.
            source: what to call the image in the result and in errors; the path by default.
            value_range: what is black and white in an array that is not uint8, e.g. (0, 1).

        Returns:
            The faces, largest first; none is an answer, not an error.

        Raises:
            ImageError: the image cannot be read.
        """
        return self.classify([self.find(image, color, faces, source, value_range)])[0]

    def analyze_many(
        self,
        images: Iterable[ImageLike],
        *,
        color: str | None = None,
        faces: bool = False,
        on_error: Callable[[str, MienError], None] | None = None,
        chunk: int = CHUNK,
        value_range: tuple[float, float] | None = None,
        workers: int = 1,
    ) -> Iterator[Result]:
        """Analyse images lazily, in order; all faces of ``chunk`` images in one call.

        Memory stays bounded: one decoded image and the crops of one chunk at a time.

        Args:
            images, color, faces, value_range: see :meth:`analyze`.
            on_error: called with (name, error) for an image that cannot be read, which is then
                skipped; None raises. What has no name is called "image N", from 0.
            chunk: images per classifier call.
            workers: threads that read images and look for faces.
        """
        if isinstance(images, (str, bytes, Path)):
            raise ModelError("analyze_many takes a list of images; for one there is analyze.")
        check_count("chunk", chunk)
        check_count("workers", workers)

        def look(item: tuple[int, ImageLike]) -> Found | tuple[str, MienError]:
            index, image = item
            try:
                return self.find(image, color, faces, None, value_range)
            except ImageError as error:
                if (name := _name(image)) is None:
                    name = f"image {index}"
                    error = type(error)(f"{name}: {error}")
                return name, error

        items = enumerate(images)

        def stream() -> Iterator[Result]:
            with ThreadPoolExecutor(workers) as threads:
                run = map if workers == 1 else threads.map  # map frees an array once looked at
                while seen := list(run(look, islice(items, chunk))):
                    for failed in seen:
                        if isinstance(failed, tuple):
                            if on_error is None:
                                raise failed[1]
                            on_error(*failed)
                    yield from self.classify([found for found in seen if isinstance(found, Found)])

        return stream()

    def find(
        self,
        image: ImageLike,
        color: str | None = None,
        faces: bool = False,
        source: str | None = None,
        value_range: tuple[float, float] | None = None,
    ) -> Found:
        """The first half of :meth:`analyze`: detect and crop. Same arguments, same errors."""
        name = source if source is not None else _name(image)
        origin = ImageSource.of(image, color, value_range)
        first: Found | None = None
        for frame in first_frames(frames_of(image, color, name, value_range)):
            found = self._find(frame, faces, name, origin)
            if found.detections:
                return found
            first = first or found
        assert first is not None  # there is a first frame, or an error
        return first

    def _find(
        self, frame: Frame, faces: bool, name: str | None, origin: ImageSource | None
    ) -> Found:
        bgr, detector = smoothed(frame.image), "none" if faces else self.detector.name
        height, width = bgr.shape[:2]
        whole = Detection(Box(0.0, 0.0, float(width), float(height)))
        detections = (whole,) if faces else self.detector.detect(bgr)
        crops = tuple(
            whole_face(bgr, self.info) if faces else crop_face(bgr, d, self.info)
            for d in detections
        )
        parts = tuple(map(measure, repeat(bgr), detections, crops, repeat(faces)))
        return Found(name, width, height, detector, detections, crops, parts, frame.number, origin)

    def classify(self, found: Sequence[Found], *, all_faces: bool = False) -> list[Result]:
        """The second half: the faces of several images in one call; a Result each, in order.

        ``all_faces`` keeps those below ``min_confidence``, for videos, where they have a track.
        """
        crops = [crop for one in found for crop in one.crops]
        rows: list[list[float]] = []
        if crops:
            p = self.classifier.predict_proba(np.stack(crops), flip=self.flip)
            if self.prior is not None:
                p = p * np.array(prior_weights(self.info, self.prior), np.float32)
                p /= p.sum(axis=1, keepdims=True)
            rows = p.tolist()
        labels, results, at = self.info.labels, [], 0
        for one in found:
            faces = []
            for detection, quality in zip(one.detections, one.qualities, strict=True):
                named = dict(zip(labels, rows[at], strict=True))
                at += 1
                face = Face(
                    detection.box,
                    named,
                    detection.score,
                    detection.landmarks,
                    parts=quality,
                    unsure=is_unsure(named, quality, self.info.unsure_below),
                )
                good = quality.overall >= self.min_quality
                if all_faces or (good and face.confidence >= self.min_confidence):
                    faces.append(face)
            result = Result(
                faces=tuple(faces),
                width=one.width,
                height=one.height,
                source=one.source,
                model=self.info.name,
                model_sha256=self.classifier.sha256,
                mien_version=__version__,
                detector=one.detector,
                frame=one.frame,
            )
            result.remember(one.origin, labels)
            results.append(result)
        return results


@overload
def predict(image: list[Any] | tuple[Any, ...], **options: Any) -> list[Result]: ...
@overload
def predict(image: ImageLike, **options: Any) -> Result: ...
def predict(
    image: ImageLike | list[ImageLike] | tuple[ImageLike, ...],
    *,
    model: str | Path = zoo.DEFAULT,
    detector: str = "yunet",
    color: str | None = None,
    faces: bool = False,
    value_range: tuple[float, float] | None = None,
    on_error: Callable[[str, MienError], None] | None = None,
    **options: Any,
) -> Result | list[Result]:
    """Find the faces of an image, or of each of a list, and name their expressions.

    The analyser is kept for the next call with the same model, detector and options.

    Args:
        image: what :meth:`Analyzer.analyze` takes, or a list of them.
        model: a shipped model's name or an ``.onnx`` file.
        detector: "yunet" (default) or "haar".
        color: "bgr" or "rgb"; must be given for colour arrays.
        faces: the images already are faces: detect nothing.
        value_range: what is black and white in arrays that are not uint8, e.g. (0, 1).
        on_error: for a list: called with (name, error) for an image that cannot be read, which is
            then left out; None raises.
        options: further arguments of :class:`Analyzer` (``min_face``, ``min_confidence``, …).

    Returns:
        A :class:`Result`, or a list of them in the order given.

    Raises:
        ImageError: an image cannot be read.
        ModelError: unknown or unusable model, detector or option value.
    """
    stamp = file_stamp(model)  # an exported model keeps its name in a notebook
    analyzer = _analyzer(str(model), stamp, detector, _Options(options))
    how: dict[str, Any] = {"color": color, "faces": faces, "value_range": value_range}
    if isinstance(image, (list, tuple)):
        chunk = max(1, len(image))
        return list(analyzer.analyze_many(image, on_error=on_error, chunk=chunk, **how))
    if on_error is not None:
        raise ModelError("on_error is for a list of images; one image raises its error.")
    return analyzer.analyze(image, **how)


class _Options(dict[str, Any]):
    """Arguments as a part of a key; inside may be lists and dicts, as providers have them."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(repr(sorted(self.items())))


@functools.lru_cache(maxsize=4)
def _analyzer(
    model: str, stamp: tuple[int, int] | None, detector: str, options: _Options
) -> Analyzer:
    return Analyzer(model, detector, **options)


def _name(image: ImageLike) -> str | None:
    if isinstance(image, str) and image == sources.STDIN:
        return "standard input"
    if sources.is_data_url(image):
        return None
    if isinstance(image, (str, os.PathLike)):
        return str(os.fsdecode(image))  # also of numpy's own
    name = getattr(image, "name", None)
    return name if isinstance(name, str) else None
