"""A loop of your own over a webcam, a network camera or a video: ``stream.py [0|rtsp://…|FILE]``.

``mien live`` and ``mien video`` do this and more; start here where you need the loop itself.
"""

from __future__ import annotations

import sys
import time

import cv2

from mien import Analyzer
from mien.track import Smoother, Tracker


def main(source: str = "0") -> None:
    """Print who shows what, a line per face and frame, until the source ends or Ctrl-C."""
    camera = cv2.VideoCapture(int(source) if source.isdigit() else source)
    if not camera.isOpened():
        sys.exit(f"{source} could not be opened.")
    analyzer = Analyzer(min_face=0.08)  # larger faces only: faster
    tracker, smoother = Tracker(), Smoother()
    while (read := camera.read())[0]:
        now = time.monotonic()
        faces = tracker.update(analyzer.analyze(read[1], color="bgr").faces, now)
        for face in smoother.update(faces, now):
            emotion, probabilities = face.shown  # averaged over time
            print(f"face {face.track}: {emotion} {probabilities[emotion]:.2f}")
    camera.release()


if __name__ == "__main__":
    main(*sys.argv[1:2])
