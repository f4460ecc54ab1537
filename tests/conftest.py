"""Fixtures shared by all tests."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    # The workers share the cores; numpy, torch and their children read this when they are imported.
    share = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, share)))

import cv2
import numpy as np
import pytest
from helpers_onnx import make_onnx
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent


#: Where the command line, in this process or another, leaves the traceback of a defect.
DEFECTS = Path(tempfile.gettempdir()) / f"mien-defects-{os.getpid()}.txt"
os.environ["MIEN_DEBUG"] = str(DEFECTS)


@pytest.fixture(autouse=True)
def _no_defect() -> Iterator[None]:
    """A test fails when the last-resort handler had to speak, whatever else it checked."""
    yield
    if DEFECTS.exists():
        text = DEFECTS.read_text(encoding="utf-8")
        DEFECTS.unlink()
        pytest.fail(f"an exception that no verb expected:\n{text}")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with the real datasets: ``MIEN_DATA``, else ``../shared/data`` beside the repo."""
    named = os.environ.get("MIEN_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not (folder / "fer2013.parquet").is_file():
        pytest.skip(f"the datasets are not in {folder}; set MIEN_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def fer2013(data_dir: Path) -> Any:
    """FER2013, a ``FaceDataset`` not to be changed; reading it takes seconds."""
    from mien.data import read_dataset

    return read_dataset(data_dir, "fer2013")


@pytest.fixture(scope="session")
def _portrait() -> NDArray[np.uint8]:
    data = pytest.importorskip("skimage.data", reason="scikit-image carries the portrait")
    rgb: NDArray[Any] = data.astronaut()
    return np.ascontiguousarray(rgb[:, :, ::-1])


@pytest.fixture
def portrait(_portrait: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A photo of one happy face: uint8 BGR (512, 512, 3); a fresh copy for every test."""
    return _portrait.copy()


@pytest.fixture
def jpeg(portrait: NDArray[np.uint8]) -> bytes:
    """The portrait as a JPEG file."""
    return cv2.imencode(".jpg", portrait)[1].tobytes()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network with random weights, as an ONNX file of mien's."""
    return Path(make_onnx(tmp_path_factory.mktemp("model") / "tiny.onnx"))


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Any]:
    """A running server of ``model``; a ``helpers_web.Running``."""
    from helpers_web import serving

    with serving(model) as running:
        yield running


@pytest.fixture(scope="session")
def shipped_model() -> Path:
    """The default model's ONNX file.

    Skips only while no model ships at all; once ``models.json`` lists one, a missing or damaged
    file is a failure.
    """
    listing = ROOT / "mien" / "zoo" / "models.json"
    if not listing.is_file() or not json.loads(listing.read_text(encoding="utf-8"))["models"]:
        pytest.skip("no model ships with this checkout yet")
    from mien import zoo

    return Path(zoo.model_path(zoo.DEFAULT))
