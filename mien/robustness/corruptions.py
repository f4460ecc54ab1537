"""FER2013-C: thirteen ways to corrupt a 48×48 face, five severities each, versioned and seeded.

In the spirit of Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations", ICLR 2019, with strengths of its own for 48 pixels. What is drawn at
random depends on the version, the corruption and the sample's id alone: neither order nor batch nor
severity changes it, so a noise of severity 5 is that of severity 1, made stronger. All but the JPEG
codec (OpenCV's) is exact arithmetic; :func:`generator_record` says whether this machine makes the
published bytes.

A test holds the bytes of every cell: whoever changes one must raise :data:`VERSION`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.errors import DataError, nearest
from mien.robustness import fixed
from mien.robustness.fixed import Images

VERSION = "fer2013-c/1"
SIZE = 48
SEVERITIES = (1, 2, 3, 4, 5)

#: Draws from an id: uint8 (N, 48, 48), ids, strength, variant -> uint8 (N, 48, 48).
Apply = Callable[[Images, Sequence[str], float, str], Images]

# Where FER2013 shows the eyes and the mouth: medians of YuNet's landmarks on 1,438 Training faces.
_EYES = ((15.0, 18.3), (32.6, 18.3))
_MOUTH = (24.0, 37.0)


@dataclass(frozen=True)
class Corruption:
    """One way to corrupt an image.

    Attributes:
        name, group, title: "jpeg", "digital", "JPEG".
        unit: what ``strengths`` count.
        strengths: of severity 1 to 5.
        variants: kinds that are all scored and averaged ("darker", "brighter"); ("",) if one.
        apply: see :data:`Apply`.
    """

    name: str
    group: str
    title: str
    unit: str
    strengths: tuple[float, ...]
    apply: Apply
    variants: tuple[str, ...] = ("",)


#: Every corruption by name, in the order of tables.
CORRUPTIONS: dict[str, Corruption] = {}


def _corruption(
    group: str, title: str, unit: str, strengths: tuple[float, ...], *variants: str
) -> Callable[[Apply], Apply]:
    """Put a function into :data:`CORRUPTIONS` under its own name."""

    def register(apply: Apply) -> Apply:
        name = apply.__name__.strip("_")
        CORRUPTIONS[name] = Corruption(
            name, group, title, unit, strengths, apply, variants or ("",)
        )
        return apply

    return register


def _digest(name: str, key: str) -> bytes:
    return hashlib.sha256(f"{VERSION}|{name}|{key}".encode()).digest()


def _random(name: str, key: str) -> np.random.RandomState:
    """numpy's frozen generator (NEP 19 keeps its streams for good), seeded from a sample's id."""
    return np.random.RandomState(np.frombuffer(_digest(name, key)[:16], "<u4"))


def _each(images: Images, ids: Sequence[str], change: Callable[[Images, str], Any]) -> Images:
    pairs = zip(images, ids, strict=True)
    parts = [np.clip(np.rint(change(image, key)), 0, 255) for image, key in pairs]
    return np.array(parts, dtype=np.uint8).reshape(images.shape)


@_corruption("noise", "Gaussian noise", "standard deviation of 255", (8, 14, 20, 28, 40))
def _gaussian_noise(images: Images, ids: Sequence[str], sigma: float, _: str) -> Images:
    def change(image: Images, key: str) -> Any:
        return image + sigma * _random("gaussian_noise", key).standard_normal(image.shape)

    return _each(images, ids, change)


@_corruption("noise", "shot noise", "photons at white", (400, 200, 100, 50, 25))
def _shot_noise(images: Images, ids: Sequence[str], photons: float, _: str) -> Images:
    def change(image: Images, key: str) -> Any:
        return _random("shot_noise", key).poisson(image / 255 * photons) * 255 / photons

    return _each(images, ids, change)


@_corruption("blur", "out of focus", "sigma in pixels", (0.6, 0.9, 1.2, 1.6, 2.2))
def _gaussian_blur(images: Images, ids: Sequence[str], sigma: float, _: str) -> Images:
    return fixed.gaussian_blur(images, sigma)


@_corruption("blur", "motion blur", "pixels travelled", (2.5, 4, 5.5, 7.5, 10))
def _motion_blur(images: Images, ids: Sequence[str], length: float, _: str) -> Images:
    """Each face moves along one of eight directions."""
    turn = np.array([_digest("motion_blur", key)[0] % 8 for key in ids], dtype=np.int64)
    out = np.empty_like(images)
    for k in range(8):
        rows = turn == k
        if rows.any():
            out[rows] = fixed.line_blur(images[rows], length, 22.5 * k)
    return out


@_corruption("digital", "JPEG", "quality", (60, 40, 25, 15, 8))
def _jpeg(images: Images, ids: Sequence[str], quality: float, _: str) -> Images:
    import cv2

    def through(image: Images) -> Any:
        # Written out, so that another default of a later OpenCV cannot change the bytes.
        options = [cv2.IMWRITE_JPEG_QUALITY, int(quality), cv2.IMWRITE_JPEG_OPTIMIZE, 0]
        done, code = cv2.imencode(".jpg", image, options)
        if not done:
            raise DataError("OpenCV cannot write JPEG here; install opencv-python-headless.")
        return cv2.imdecode(code, cv2.IMREAD_GRAYSCALE)

    return np.array([through(image) for image in images], np.uint8).reshape(images.shape)


@_corruption("digital", "low resolution", "pixels a side", (32, 24, 18, 14, 10))
def _low_resolution(images: Images, ids: Sequence[str], side: float, _: str) -> Images:
    return fixed.low_resolution(images, int(side))


@_corruption(
    "light", "brightness", "stops of exposure", (0.4, 0.8, 1.2, 1.8, 2.5), "darker", "brighter"
)
def _brightness(images: Images, ids: Sequence[str], stops: float, variant: str) -> Images:
    """Wrong exposure: light times 2^stops, so coded values (gamma 2.2) times 2^(stops / 2.2)."""
    return fixed.scaled(images, 2 ** ((stops if variant == "brighter" else -stops) / 2.2))


@_corruption("light", "low contrast", "contrast left", (0.6, 0.4, 0.25, 0.15, 0.08))
def _contrast(images: Images, ids: Sequence[str], factor: float, _: str) -> Images:
    return fixed.around_mean(images, factor)


@_corruption("occlusion", "eyes hidden", "times a pair of glasses", (0.5, 0.75, 1.0, 1.3, 1.7))
def _eyes_hidden(images: Images, ids: Sequence[str], scale: float, _: str) -> Images:
    """Dark glasses: a lens over each eye and a bridge between them."""
    lenses = [fixed.ellipse(SIZE, x, y, 7.0 * scale, 5.0 * scale, 4) for x, y in _EYES]
    middle = sum(x for x, _ in _EYES) / 2
    bridge = fixed.ellipse(SIZE, middle, _EYES[0][1] - 1, 6.0, 1.0 * scale, 4)
    return fixed.covered(images, np.maximum.reduce([*lenses, bridge]), 24)


@_corruption("occlusion", "mouth hidden", "times a covered mouth", (0.5, 0.75, 1.0, 1.3, 1.7))
def _mouth_hidden(images: Images, ids: Sequence[str], scale: float, _: str) -> Images:
    """A light mask over mouth and chin; at severity 5 from the nose downwards."""
    x, y = _MOUTH
    mask = fixed.ellipse(SIZE, x, y + 1.5 * scale, 11.0 * scale, 7.0 * scale, 4)
    return fixed.covered(images, mask, 190)


@_corruption("framing", "rotation", "degrees", (5, 10, 15, 22.5, 30), "clockwise", "anticlockwise")
def _rotation(images: Images, ids: Sequence[str], degrees: float, variant: str) -> Images:
    turn = math.radians(degrees if variant == "clockwise" else -degrees)
    c, s = math.cos(turn), math.sin(turn)
    return fixed.warp(images, c, s, -s, c, 0, 0)


@_corruption("framing", "scale", "% of the crop's side", (5, 10, 15, 20, 25), "tighter", "looser")
def _scale(images: Images, ids: Sequence[str], percent: float, variant: str) -> Images:
    """A crop tighter or looser than FER2013's; what is outside the image repeats its edge."""
    side = 1 + (percent if variant == "looser" else -percent) / 100
    return fixed.warp(images, side, 0, 0, side, 0, 0)


@_corruption(
    *("framing", "translation", "% of the crop's side", (3, 6, 10, 15, 20)),
    *("left", "right", "up", "down"),
)
def _translation(images: Images, ids: Sequence[str], percent: float, variant: str) -> Images:
    """A crop shifted by a share of its side; what is outside the image repeats its edge."""
    way = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}[variant]
    dx, dy = (w * percent / 100 * SIZE for w in way)
    return fixed.warp(images, 1, 0, 0, 1, dx, dy)


@dataclass(frozen=True)
class CellKey:
    """One cell of the grid in one variant; severity 0 of "clean" is the untouched image."""

    corruption: str
    severity: int
    variant: str = ""


#: How a crop may miss: 15 % tighter, 15 % looser, shifted by 10 % in four directions.
FRAMING: tuple[CellKey, ...] = (
    CellKey("scale", 3, "tighter"),
    CellKey("scale", 3, "looser"),
    *(CellKey("translation", 3, way) for way in CORRUPTIONS["translation"].variants),
)


def known(names: Iterable[str]) -> tuple[str, ...]:
    """``names``, checked. Raises DataError for one that is no corruption."""
    listed = tuple(names)
    for name in listed:
        if name not in CORRUPTIONS:
            raise DataError(f"Unknown corruption {name!r}{nearest(name, CORRUPTIONS)}")
    return listed


def corrupt(
    images: NDArray[np.uint8], ids: Sequence[str], name: str, severity: int, variant: str = ""
) -> Images:
    """Corrupt faces as FER2013-C does.

    Args:
        images: uint8 (N, 48, 48), grey, 0..255.
        ids: N sample ids; they seed what is drawn at random.
        name: a key of :data:`CORRUPTIONS`.
        severity: 1 to 5.
        variant: one of the corruption's variants; "" takes its first.

    Returns:
        uint8 (N, 48, 48); ``images`` is left alone.

    Raises:
        DataError: another shape or dtype, or an unknown name, severity or variant.
    """
    corruption = CORRUPTIONS[known([name])[0]]
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (SIZE, SIZE):
        raise DataError(
            f"FER2013-C takes uint8 faces of shape (N, {SIZE}, {SIZE}), not {images.dtype} "
            f"{images.shape}; resize them first."
        )
    if len(ids) != len(images):
        raise DataError(f"{len(images)} faces came with {len(ids)} ids; each needs its own.")
    if severity not in SEVERITIES:
        raise DataError(f"The severity is {severity}; FER2013-C has 1 to 5.")
    if variant and variant not in corruption.variants:
        raise DataError(
            f"{name} has no variant {variant!r}; it has {', '.join(corruption.variants)}."
        )
    chosen = variant or corruption.variants[0]
    return corruption.apply(images, ids, corruption.strengths[severity - 1], chosen)


def drawn_faces() -> tuple[Images, tuple[str, ...]]:
    """Four drawn images, uint8 (4, 48, 48), with their ids: what the checksums are taken of."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.int64)
    disc = np.where((x - 24) ** 2 + (y - 24) ** 2 < 400, 180, 60)
    for cx, cy, r in ((15, 18, 9), (33, 18, 9), (24, 37, 25)):
        disc = np.where((x - cx) ** 2 + (y - cy) ** 2 < r, 30, disc)
    images = (disc, (x * 5 + y) % 256, ((x // 6 + y // 6) % 2) * 255, (x * x + 3 * y * y) % 251)
    ids = tuple(f"drawn:{i:05d}" for i in range(len(images)))
    return np.stack(images).astype(np.uint8), ids


def checksums() -> dict[str, str]:
    """SHA-256 of every corruption at every severity, all variants, over :func:`drawn_faces`."""
    images, ids = drawn_faces()
    found = {}
    for c in CORRUPTIONS.values():
        for severity in SEVERITIES:
            digest = hashlib.sha256()
            for variant in c.variants:
                digest.update(corrupt(images, ids, c.name, severity, variant).tobytes())
            found[f"{c.name}-{severity}"] = digest.hexdigest()
    return found


def published_checksums() -> dict[str, str]:
    """The :func:`checksums` that define :data:`VERSION`."""
    file = resources.files("mien.robustness").joinpath("checksums.json")
    record = json.loads(file.read_text(encoding="utf-8"))
    return dict(record["sha256"])


def generator_record() -> dict[str, Any]:
    """What made the images: version, one SHA-256 over all cells, and which cells differ here."""
    found, expected = checksums(), published_checksums()
    whole = hashlib.sha256("".join(f"{k}={v}\n" for k, v in found.items()).encode()).hexdigest()
    differ = [key for key, value in found.items() if expected.get(key) != value]
    return {"version": VERSION, "sha256": whole, "differs": differ}
