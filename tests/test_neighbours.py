"""Beside other packages: OpenCV missing, broken, or of a version without what is asked for."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import cv2
import pytest

import mien
from mien.detect import load_detector
from mien.errors import ModelError

ROOT = Path(__file__).resolve().parent.parent
PHOTO = Path(mien.__file__).parent / "assets" / "astronaut.jpg"

SCRIPT = """
    import sys, types
    {before}
    from mien.cli import main
    assert main(["predict", {photo!r}, "--json"]) == 2
    import mien
    try:
        mien.predict
    except mien.MienError as error:
        print(error)
"""


@pytest.mark.parametrize(
    ("before", "sentence"),
    [
        ("sys.modules['cv2'] = None", "mien needs cv2, which is not installed"),
        ("sys.modules['cv2'] = types.ModuleType('cv2')", "This OpenCV cannot be used"),
    ],
    ids=["missing", "emptied"],
)
def test_a_missing_or_emptied_package_is_one_sentence(before, sentence):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT).format(before=before, photo=str(PHOTO))],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert "pip install" in done.stderr


def test_contrib_of_opencv_5_has_the_class_without_the_cascades(monkeypatch, tmp_path):
    monkeypatch.setattr(cv2, "__version__", "5.0.0")
    monkeypatch.setattr(cv2, "__file__", str(tmp_path / "cv2" / "__init__.py"))
    with pytest.raises(ModelError, match=r"version 5 dropped them.*use yunet"):
        load_detector("haar")


def test_a_detector_that_this_opencv_lacks_says_so(monkeypatch):
    monkeypatch.delattr(cv2, "CascadeClassifier")
    monkeypatch.delattr(cv2, "FaceDetectorYN")
    with pytest.raises(ModelError, match="opencv-python-headless"):
        load_detector("haar")
    assert load_detector("yunet").name == "yunet"  # runs in onnxruntime
