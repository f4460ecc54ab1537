"""What every public call returns: frozen, typed, and convertible to JSON and back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from mien.emotions import Emotion, Label, to_label
from mien.results.pose import Point, Pose, pose_of
from mien.results.shown import Shown

#: When a face reads as two expressions (:func:`is_blend`). Chosen on FER2013's PublicTest so that
#: the shipped model says so as often as FER+'s raters are split: docs/blend.md.
BLEND_GAP = 0.30
BLEND_SUM = 0.60


def is_blend(probabilities: Iterable[float]) -> bool:
    """Whether neither of the two leading expressions dominates.

    True where the first leads the second by less than ``BLEND_GAP`` and the two together have at
    least ``BLEND_SUM``; below that sum the face is unclear rather than mixed.
    """
    first, second, *_ = (*sorted(probabilities, reverse=True), 0.0, 0.0)
    return first - second < BLEND_GAP and first + second >= BLEND_SUM


def blend_of(probabilities: Mapping[Label, float]) -> tuple[Label, Label] | None:
    """The two leading expressions, stronger first, where neither dominates; else None."""
    if not is_blend(probabilities.values()):
        return None
    first, second = sorted(probabilities, key=lambda e: -probabilities[e])[:2]
    return first, second


@dataclass(frozen=True, slots=True)
class Box:
    """A face box in pixels of the (EXIF-upright) image; it may reach over the image's edge."""

    x: float
    y: float
    width: float
    height: float

    @property
    def area(self) -> float:
        return self.width * self.height

    @property
    def center(self) -> Point:
        return (self.x + self.width / 2, self.y + self.height / 2)

    def to_dict(self) -> dict[str, float]:
        """For JSON: x, y, width and height in pixels, with two decimals."""
        # A detector of one's own may give numpy's numbers.
        return {f.name: round(float(getattr(self, f.name)), 2) for f in fields(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Box:
        """From what :meth:`to_dict` gave. Raises KeyError where a number is missing."""
        return cls(*(float(data[f.name]) for f in fields(cls)))


@dataclass(frozen=True, slots=True)
class Quality:
    """What a photo gives of a face, part by part (:mod:`mien.quality`); each 0..1, 1 is good.

    Attributes:
        size: pixels of the face.
        sharpness: against blur and enlargement.
        exposure: whether it uses enough grey values.
        pose: looking at the camera rather than to the side, up or down.
        whole: inside the image rather than cut off by its edge.
        detection: the detector's score; 1 where there is none.
    """

    size: float = 1.0
    sharpness: float = 1.0
    exposure: float = 1.0
    pose: float = 1.0
    whole: float = 1.0
    detection: float = 1.0

    @property
    def overall(self) -> float:
        """The product of the parts."""
        return math.prod(float(getattr(self, f.name)) for f in fields(self))

    def to_dict(self) -> dict[str, float]:
        """For JSON: every part by its name, with three decimals."""
        return {f.name: round(float(getattr(self, f.name)), 3) for f in fields(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Quality:
        """From what :meth:`to_dict` gave. Raises KeyError where a part is missing."""
        return cls(*(float(data[f.name]) for f in fields(cls)))


@dataclass(frozen=True, slots=True, repr=False)
class Face:
    """One face with its expression.

    Attributes:
        box: where the face is.
        emotion: the most probable class.
        confidence: its probability, 0..1.
        probabilities: calibrated probability of every class of the model; they sum to 1.
        detection_score: the detector's confidence, 0..1; None where the detector gives none
            (Haar) or the image was declared a face (``faces=True``).
        landmarks: right eye, left eye, nose tip, right and left mouth corner (the person's own
            right and left), in pixels; empty where the detector gives none.
        track: the same number for the same face in every frame (:class:`mien.track.Tracker`);
            None for a single image.
        smoothed: the probabilities smoothed over time (:class:`mien.track.Smoother`), or None.
        steady: the expression named from ``smoothed`` with hysteresis; None where none leads
            clearly ("unsure"), or nothing was smoothed.
        parts: the quality's parts, or None where it was not measured.
        unsure: the answer should not be used: by a rule on the probabilities and the quality
            (:mod:`mien.quality`).
    """

    box: Box
    probabilities: Mapping[Label, float]
    detection_score: float | None = None
    landmarks: tuple[Point, ...] = ()
    track: int | None = None
    smoothed: Mapping[Label, float] | None = None
    steady: Label | None = None
    parts: Quality | None = None
    unsure: bool = False

    # Fields, not properties, and with defaults: whatever turns dataclasses into JSON (FastAPI,
    # pydantic) keeps them. What is given is overwritten.
    emotion: Label = Emotion.NEUTRAL
    confidence: float = 0.0

    def __post_init__(self) -> None:
        emotion = max(self.probabilities, key=lambda e: self.probabilities[e])
        object.__setattr__(self, "emotion", emotion)
        object.__setattr__(self, "confidence", self.probabilities[emotion])

    def __hash__(self) -> int:
        """Of a part of what is compared: the probabilities are a dict."""
        return hash((self.box, self.detection_score, self.landmarks, self.track))

    def __repr__(self) -> str:
        box = self.box
        place = f"{box.width:.0f}×{box.height:.0f} at {box.x:.0f}, {box.y:.0f}"
        doubt = ", unsure" if self.unsure else ""
        return f"<Face {self.emotion} {self.confidence:.2f}{doubt}, {place}>"

    @property
    def quality(self) -> float | None:
        """How good a photo of a face this is, 0..1: the product of :attr:`parts`."""
        return None if self.parts is None else self.parts.overall

    @property
    def pose(self) -> Pose | None:
        """Roll, yaw and pitch in degrees, by the landmarks: roll well, the others roughly."""
        return pose_of(self.landmarks) if self.landmarks else None

    @property
    def blend(self) -> tuple[Label, Label] | None:
        """The two leading expressions, stronger first, where neither dominates; else None."""
        return blend_of(self.probabilities)

    @property
    def shown(self) -> tuple[Label, Mapping[Label, float]]:
        """What to show a viewer: the smoothed expression and probabilities, else the raw ones."""
        if self.smoothed is None:
            return self.emotion, self.probabilities
        best = max(self.smoothed, key=self.smoothed.__getitem__)
        return self.steady or best, self.smoothed

    def top(self, k: int = 3) -> tuple[tuple[Label, float], ...]:
        """The ``k`` most probable classes with their probabilities, best first."""
        ranked = sorted(self.probabilities.items(), key=lambda item: -item[1])
        return tuple(ranked[:k])

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; "blend" is null or two names.

        "track", "smoothed" and "steady" are there only where they are known; "steady" is null where
        no expression leads clearly.
        """
        points = tuple((round(float(x), 2), round(float(y), 2)) for x, y in self.landmarks)
        parts = None if self.parts is None else self.parts.to_dict()
        score = self.detection_score
        out: dict[str, Any] = {
            "emotion": self.emotion.value,
            "confidence": round(self.confidence, 6),
            "probabilities": _rounded(self.probabilities),
            "blend": None if self.blend is None else [e.value for e in self.blend],
            "box": self.box.to_dict(),
            "landmarks": [list(point) for point in points],
            "detection_score": None if score is None else round(float(score), 6),
            "unsure": self.unsure,
            # Of what stands here, so that a record that was read is written alike.
            "quality": None if parts is None else round(math.prod(parts.values()), 3),
            "quality_parts": parts,
            **_angles(pose_of(points) if points else None),
        }
        if self.track is not None:
            out["track"] = self.track
        if self.smoothed is not None:
            out["smoothed"] = _rounded(self.smoothed)
            out["steady"] = None if self.steady is None else self.steady.value
        return out

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Face:
        """From what :meth:`to_dict` gave. Raises KeyError without a box or probabilities."""
        score, track = data.get("detection_score"), data.get("track")
        smoothed, steady = data.get("smoothed"), data.get("steady")
        parts = data.get("quality_parts")
        return cls(
            box=Box.from_dict(data["box"]),
            probabilities=_probabilities(data["probabilities"]),
            detection_score=None if score is None else float(score),
            landmarks=tuple((float(x), float(y)) for x, y in data.get("landmarks", ())),
            track=None if track is None else int(track),
            smoothed=None if smoothed is None else _probabilities(smoothed),
            steady=None if steady is None else to_label(steady),
            parts=None if parts is None else Quality.from_dict(parts),
            unsure=bool(data.get("unsure", False)),
        )


def _angles(pose: Pose | None) -> dict[str, float | None]:
    if pose is None:
        return dict.fromkeys(("roll", "yaw", "pitch"))
    return {"roll": round(pose.roll, 1), "yaw": round(pose.yaw, 1), "pitch": round(pose.pitch, 1)}


def _rounded(values: Mapping[Label, float]) -> dict[str, float]:
    return {e.value: round(p, 6) for e, p in values.items()}


def _probabilities(values: Mapping[str, Any]) -> dict[Label, float]:
    return {to_label(k): float(v) for k, v in values.items()}


@dataclass(frozen=True, slots=True, repr=False)
class Result(Shown):
    """All faces of one image, largest first. No face found is an answer: ``faces`` is empty.

    Attributes:
        faces: the faces.
        width, height: size of the (EXIF-upright) image in pixels.
        source: the path or name the image came from; None for an array.
        model, model_sha256: name of the classifier, and the SHA-256 of its file.
        mien_version: version of mien that made this.
        detector: "yunet", "haar" or "none" (the image was declared a face).
        frame: number of the frame in its video, from 0; None for an image.
        time: seconds on the container's clock, which its sound shares; None for an image.
        skipped: damaged frames that were lost just before this one.
    """

    faces: tuple[Face, ...]
    width: int
    height: int
    source: str | None = None
    model: str = ""
    detector: str = ""
    frame: int | None = None
    time: float | None = None
    skipped: int = 0
    model_sha256: str = ""
    mien_version: str = ""

    def __repr__(self) -> str:
        shown = ", ".join(f"{f.emotion} {f.confidence:.2f}" for f in self.faces[:5])
        more = ", …" if len(self.faces) > 5 else ""
        count = f"{len(self.faces)} face{'' if len(self.faces) == 1 else 's'}"
        name = "" if self.source is None else f" {ascii(self.source)[1:-1]}"
        faces = f"{count}: {shown}{more}" if self.faces else count
        return f"<Result{name} {self.width}×{self.height}, {faces}>"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; "frame" and "time" are there only for frames of a video.

        "skipped" is there only where frames were lost.
        """
        video: dict[str, Any] = {}
        if self.frame is not None:
            video["frame"] = self.frame
        if self.time is not None:
            video["time"] = round(self.time, 6)
        if self.skipped:
            video["skipped"] = self.skipped
        return {
            "source": self.source,
            **video,
            "width": self.width,
            "height": self.height,
            "model": self.model,
            "model_sha256": self.model_sha256,
            "mien_version": self.mien_version,
            "detector": self.detector,
            "faces": [face.to_dict() for face in self.faces],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Result:
        """From what :meth:`to_dict` gave, a line of JSON Lines say. Raises KeyError without faces,
        width or height."""
        names = ("model", "model_sha256", "mien_version", "detector")
        return cls(
            faces=tuple(Face.from_dict(f) for f in data["faces"]),
            width=int(data["width"]),
            height=int(data["height"]),
            source=data.get("source"),
            **{name: data.get(name, "") for name in names},
            frame=None if data.get("frame") is None else int(data["frame"]),
            time=None if data.get("time") is None else float(data["time"]),
            skipped=int(data.get("skipped", 0)),
        )
