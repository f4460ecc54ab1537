"""One photo: the faces on it, and an annotated copy: ``one_photo.py PHOTO [COPY.png]``."""

from __future__ import annotations

import sys

import mien


def main(photo: str, copy: str | None = None) -> None:
    """Print a line per face; write the copy where one is asked for."""
    result = mien.predict(photo)
    for face in result.faces:
        leading = ", ".join(f"{emotion} {share:.2f}" for emotion, share in face.top(3))
        print(f"face at ({face.box.x:.0f}, {face.box.y:.0f}): {leading}")
    if copy is not None:
        result.save(copy)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(*sys.argv[1:])
