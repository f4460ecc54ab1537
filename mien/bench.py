"""Speed, memory and size of this installation: the figures behind ``mien bench``.

Times are medians over repeats in milliseconds; what starts a process is measured in a fresh one.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien import zoo
from mien._system import child_environment, processor
from mien._version import __version__
from mien.classify import available_cores, load_classifier
from mien.errors import MienError, ModelError
from mien.images import read_image
from mien.onnxfile.runtime import onnxruntime

BATCHES = (1, 4, 8, 16, 32, 64)
SIDE = 1024

#: What the project set itself (issue "Figures to reach"): key -> (limit, unit, "max" or "min").
TARGETS: dict[str, tuple[float, str, str]] = {
    "classifier_faces_per_s": (4000, "faces/s", "min"),
    "photo_1_face_ms": (15, "ms", "max"),
    "photo_4_faces_ms": (20, "ms", "max"),
    "cold_start_s": (0.6, "s", "max"),
    "cold_peak_mib": (200, "MiB", "max"),
    "import_ms": (50, "ms", "max"),
    "base_environment_mb": (360, "MB", "max"),
}


def run_bench(
    model: str | Path = zoo.DEFAULT,
    photo: str | Path | None = None,
    *,
    repeats: int = 20,
    threads: tuple[int, ...] = (1, 2),
) -> dict[str, Any]:
    """Measure everything once.

    Args:
        model: a shipped model's name or an ``.onnx`` file.
        photo: a photo with one clear face; the bundled portrait by default.
        repeats: timed runs of each measurement; their median counts.
        threads: classifier threads to measure with.

    Returns:
        A JSON-ready object: "system", "model" (name and SHA-256), "classifier" (faces/s by threads
        and batch), "photo" (ms by threads and faces), "fresh_process", "disk" and "summary" (each
        target, the measured value and whether it is met; the best of the thread counts).

    Raises:
        ModelError: the model cannot be loaded, or a count is below 1.
        ImageError: the photo cannot be read.
    """
    if repeats < 1 or not threads or min(threads) < 1:
        raise ModelError("repeats and threads must be 1 or more.")
    portrait, loaded = _portrait(photo), load_classifier(model)
    out: dict[str, Any] = {
        "system": system(),
        "model": {"name": loaded.info.name, "sha256": loaded.sha256},
        "classifier": {str(t): classifier_speed(model, t, repeats) for t in threads},
        "photo": {str(t): photo_speed(model, portrait, t, repeats) for t in threads},
        "fresh_process": fresh_process(model, portrait, max(3, repeats // 4)),
        "disk": {"base_environment_mb": round(base_environment_bytes() / 1e6, 1)},
    }
    out["summary"] = _summary(out)
    return out


def system() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "mien": __version__,
        "python": platform.python_version(),
        "processor": processor(),
        "cores": available_cores(),
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "numpy": np.__version__,
        "onnxruntime": onnxruntime().__version__,  # of whatever package: -gpu has its own name
    }


def classifier_speed(model: str | Path, threads: int, repeats: int) -> dict[str, float]:
    """Faces per second by batch size, from uint8 crops to probabilities."""
    classifier = load_classifier(model, threads)
    size = classifier.info.input_size
    faces = np.random.default_rng(0).integers(0, 256, (256, size, size), dtype=np.uint8)
    return {
        str(batch): round(
            256e3 / _median_ms(functools.partial(classifier.predict_proba, faces, batch), repeats),
            1,
        )
        for batch in BATCHES
    }


def photo_speed(
    model: str | Path, portrait: NDArray[np.uint8], threads: int, repeats: int
) -> dict[str, float]:
    """Milliseconds from a 1024×1024 BGR array to its Result, with one face and with four."""
    from mien.pipeline import Analyzer

    analyzer = Analyzer(model, threads=threads)
    out = {}
    for faces in (1, 4):
        image = compose(portrait, faces)
        found = len(analyzer.analyze(image, color="bgr").faces)
        if found != faces:
            raise MienError(
                f"The benchmark's photo shows {found} faces where {faces} were put; "
                "give another with --photo (one clear face)."
            )
        run = functools.partial(analyzer.analyze, image, color="bgr")
        out[str(faces)] = round(_median_ms(run, repeats), 2)
    return out


def compose(portrait: NDArray[np.uint8], faces: int) -> NDArray[np.uint8]:
    """A 1024×1024 image with the portrait once, or four times in a square."""
    import cv2

    side = SIDE if faces == 1 else SIDE // 2
    height, width = portrait.shape[:2]
    n = min(height, width)
    top, left = (height - n) // 2, (width - n) // 2
    one = cv2.resize(portrait[top : top + n, left : left + n], (side, side))
    tiles = SIDE // side
    return np.ascontiguousarray(np.tile(one, (tiles, tiles, 1)), dtype=np.uint8)


_COLD = """
import time
start = time.perf_counter()
import mien
imported = time.perf_counter()
result = mien.predict({photo!r}, model={model!r})
done = time.perf_counter()
import json
try:  # the process's own peak; ru_maxrss may start at its parent's size
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
except OSError:
    import resource, sys
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    peak /= 1024 if sys.platform == "darwin" else 1
print(json.dumps({{"import_ms": (imported - start) * 1e3, "peak_mib": peak,
                  "faces": len(result.faces)}}))
"""


def fresh_process(model: str | Path, portrait: NDArray[np.uint8], repeats: int) -> dict[str, float]:
    """A fresh ``python -c`` that reads a 1024×1024 JPEG and prints its result.

    Returns:
        "cold_start_s" (from start of the process to its end, interpreter included),
        "cold_peak_mib" and "import_ms" (``import mien`` alone); medians.
    """
    import tempfile

    import cv2

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "photo.jpg"
        file.write_bytes(cv2.imencode(".jpg", compose(portrait, 1))[1].tobytes())
        code = _COLD.format(photo=str(file), model=str(model))
        walls, rows = [], []
        for _ in range(repeats + 1):
            start = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-P", "-c", code],
                env=child_environment(),
                capture_output=True,
                text=True,
                check=False,
            )
            walls.append(time.perf_counter() - start)
            if done.returncode:
                lines = done.stderr.strip().splitlines() or ["no message"]
                raise MienError(f"The fresh process failed: {lines[-1]}")
            rows.append(json.loads(done.stdout))
    walls, rows = walls[1:], rows[1:]  # the first run fills the disk cache
    return {
        "cold_start_s": round(statistics.median(walls), 3),
        "cold_peak_mib": round(statistics.median(r["peak_mib"] for r in rows), 1),
        "import_ms": round(statistics.median(r["import_ms"] for r in rows), 2),
    }


def base_environment_bytes() -> int:
    """Bytes on disk of mien and everything that ``pip install mien`` brings, by pip's records.

    An editable installation's own files are counted where they lie.
    """
    seen: set[str] = set()
    todo, total = ["mien"], 0
    while todo:
        name = re.sub(r"[-_.]+", "-", todo.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            package = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # a dependency of another platform
        for requirement in package.requires or ():
            wanted, _, marker = requirement.partition(";")
            if "extra" not in marker:
                match = re.match(r"[A-Za-z0-9._-]+", wanted.strip())
                todo += [match.group()] if match else []
        total += sum(_file_size(Path(str(f.locate()))) for f in package.files or ())
    here = Path(__file__).parent
    if not any(str(f).startswith("mien/") for f in metadata.distribution("mien").files or ()):
        total += sum(_file_size(f) for f in here.rglob("*"))
    return total


def _file_size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _portrait(photo: str | Path | None) -> NDArray[np.uint8]:
    if photo is not None:
        return read_image(photo)
    with resources.as_file(resources.files("mien") / "assets" / "astronaut.jpg") as bundled:
        return np.ascontiguousarray(read_image(bundled)[:360, 40:400])


def _median_ms(run: Callable[[], object], repeats: int) -> float:
    run()  # warm
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


def _summary(out: dict[str, Any]) -> list[dict[str, Any]]:
    """Each target beside its figure: the best over thread counts (and batches)."""
    values: dict[str, float] = {
        "classifier_faces_per_s": max(
            v for row in out["classifier"].values() for v in row.values()
        ),
        "photo_1_face_ms": min(row["1"] for row in out["photo"].values()),
        "photo_4_faces_ms": min(row["4"] for row in out["photo"].values()),
        **out["fresh_process"],
        **out["disk"],
    }
    rows = []
    for key, (limit, unit, kind) in TARGETS.items():
        met = values[key] >= limit if kind == "min" else values[key] <= limit
        rows.append(
            {"name": key, "value": values[key], "target": limit, "unit": unit, "met": met}
            | {"better": "higher" if kind == "min" else "lower"}
        )
    return rows
