"""Count the files of mien in which a command calls a function.

    python tools/walk.py predict photo.jpg
    python tools/walk.py --drawn train mien_fast --set epochs=1 --out out/walk

With --drawn the command gets 140 drawn faces as its dataset. Files are listed on standard output
with their calls, most first; the last line is their number. Threads are followed, processes not.
"""

from __future__ import annotations

import inspect
import os
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def drawn(folder: Path) -> Path:
    """A FER2013 CSV of faces that are bars of light."""
    import numpy as np

    rows = ["emotion,pixels,Usage"]
    rng = np.random.default_rng(0)
    usages = ("Training", "Training", "Training", "PublicTest", "PrivateTest")
    for i in range(140):
        image = rng.integers(0, 90, (48, 48))
        image[4 + 6 * (i % 7) : 9 + 6 * (i % 7), 8:40] = 230
        pixels = " ".join(map(str, image.ravel()))
        rows.append(f"{i % 7},{pixels},{usages[i % 5]}")
    path = folder / "fer2013.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def _importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported by a function that ``frame`` was called from."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def walk(arguments: list[str]) -> Counter[str]:
    """Run ``mien ARGUMENTS`` in this process: file of mien -> calls of its functions."""
    from mien.cli import main

    package = str(ROOT / "mien") + os.sep
    calls: Counter[str] = Counter()

    def note(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        # The bodies of modules and classes are no functions, and what they call is no work.
        function = code.co_flags & inspect.CO_OPTIMIZED
        ours = event == "call" and function and code.co_filename.startswith(package)
        if ours and not _importing(frame):
            calls[code.co_filename.removeprefix(package)] += 1

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        main(arguments)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    return calls


def main() -> None:
    """See above."""
    arguments = sys.argv[1:]
    os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", "17179869184")  # no new process for it
    with tempfile.TemporaryDirectory() as folder:
        if arguments[:1] == ["--drawn"]:
            arguments = [*arguments[1:], "--data", str(drawn(Path(folder)))]
        calls = walk(arguments)
    for name, count in calls.most_common():
        print(f"{count:9,}  {name}")
    print(f"{len(calls)} files, {sum(calls.values()):,} calls")


if __name__ == "__main__":
    main()
