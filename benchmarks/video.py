"""How fast is `mien video`, and how much memory does it take?

    python benchmarks/video.py [--seconds 40] [--repeats 3] [--cores 2] [--json FILE] [--memory N]

Draws a 640×480 video of one face (the public-domain portrait of scikit-image, moved and zoomed),
encodes it as H.264 with the system's ffmpeg, and measures frames a second of each stage and of
`mien video` with and without an annotated video; start-up is left out. The process is bound to
``--cores`` cores. Since a busy machine slows everything, each figure also comes as processor
milliseconds a frame (ffmpeg's own included) and as a ratio to decoding alone, measured in turn.
It checks that the results with and without batching are the same. ``--memory N`` also reads N
frames of a looped video and fits a line through the resident memory. docs/video.md holds the
outcome.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from skimage import data

from mien.bench import system
from mien.pipeline import Analyzer
from mien.video import writer
from mien.video.flow import analyze_frames
from mien.video.options import Options, Outputs
from mien.video.reader import Video
from mien.video.run import VideoRun

TARGETS = {"tables": 120.0, "annotated film": 60.0}
SIZE, FPS = (640, 480), 30


def frames(count: int) -> Iterator[np.ndarray]:
    portrait = np.ascontiguousarray(data.astronaut()[:, :, ::-1])
    for n in range(count):
        s = 0.9 + 0.2 * np.sin(n / 40)
        matrix = np.array([[s, 0, 100 + 60 * np.sin(n / 25)], [0, s, -10 + 20 * np.cos(n / 31)]])
        yield cv2.warpAffine(portrait, matrix, SIZE, borderValue=(90, 110, 100))


def make_video(path: Path, seconds: int) -> None:
    command = ["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "bgr24", "-s"]
    command += ["640x480", "-r", str(FPS), "-i", "-", "-f", "lavfi", "-i", f"sine=d={seconds}"]
    command += ["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-c:a", "aac"]
    process = subprocess.Popen([*command, str(path)], stdin=subprocess.PIPE)
    assert process.stdin is not None
    for frame in frames(seconds * FPS):
        process.stdin.write(frame.tobytes())
    process.stdin.close()
    if process.wait():
        raise SystemExit("ffmpeg could not make the film")


def cpu_seconds() -> float:
    """Processor time of this process and of the children it has waited for."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(r.ru_utime + r.ru_stime for r in both)


def measure(run: Callable[[], int]) -> tuple[float, float]:
    """Frames a second of wall time, and processor milliseconds a frame."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    count = run()
    return count / (time.perf_counter() - wall), (cpu_seconds() - cpu) / count * 1e3


def cases(video: Path, analyzer: Analyzer, folder: Path) -> dict[str, Callable[[], int]]:
    def decode() -> int:
        return sum(1 for _ in Video(video).frames())

    def detect() -> int:
        return sum(1 for f in Video(video).frames() if analyzer.detector.detect(f.image))

    def unbatched() -> int:
        seen = analyze_frames(analyzer, Video(video).frames(), batch=1, workers=1)
        return sum(1 for _ in seen)

    def run(outputs: Outputs, **options: Any) -> Callable[[], int]:
        def do() -> int:
            (summary,) = VideoRun([video], analyzer, Options(**options), outputs).run()
            return summary.timeline.frames

        return do

    def without_ffmpeg() -> int:
        real, writer.ffmpeg_path = writer.ffmpeg_path, lambda: None
        try:
            return run(Outputs(video=folder / "o.avi"))()
        finally:
            writer.ffmpeg_path = real

    tables = Outputs(csv=str(folder / "o.csv"), jsonl=str(folder / "o.jsonl"))
    return {
        "decode alone": decode,
        "decode and detect, one thread": detect,
        "one frame at a time, no batches": unbatched,
        "tables": run(tables),
        "tables and timeline": run(dataclasses.replace(tables, plot=folder / "o.html")),
        "annotated film": run(Outputs(video=folder / "o.mp4")),
        "annotated film, no bars": run(Outputs(video=folder / "o.mp4"), bars=False),
        "annotated film without ffmpeg (MJPEG)": without_ffmpeg,
    }


def same_results(video: Path, analyzer: Analyzer) -> bool:
    def results(batch: int, workers: int) -> list[Any]:
        seen = analyze_frames(analyzer, Video(video).frames(), batch=batch, workers=workers)
        return [one.result for one in seen]

    return results(1, 1) == results(16, 4)


_MEMORY = """
import sys
from pathlib import Path
import cv2
cv2.setNumThreads(1)
from mien.pipeline import Analyzer
from mien.video.options import Options, Outputs
from mien.video.run import VideoRun
video, folder = map(Path, sys.argv[1:])
count = 0
def on_frame(video, result):
    global count
    count += 1
    if count % 100 == 0:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        print(count, pages * 4096 / 2**20, flush=True)
outputs = Outputs(str(folder / "m.csv"), str(folder / "m.jsonl"), video=folder / "m.mp4",
                  plot=folder / "m.html")
list(VideoRun([video], Analyzer(), Options(), outputs).run(on_frame))
status = Path("/proc/self/status").read_text()
print("peak", int(status.split("VmHWM:")[1].split()[0]) / 1024)
"""


def memory(video: Path, folder: Path, count: int) -> dict[str, float]:
    """Resident MiB over a looped video with every output on, in a process of its own."""
    loops = max(0, round(count / Video(video).frames_expected) - 1)
    long = folder / "long.mp4"
    copy = ["ffmpeg", "-v", "error", "-y", "-stream_loop", str(loops), "-i", str(video)]
    subprocess.run([*copy, "-c", "copy", str(long)], check=True)
    done = subprocess.run(
        [sys.executable, "-c", _MEMORY, str(long), str(folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    *rows, last = (line.split() for line in done.stdout.splitlines())
    counts, sizes = (np.array(column, float) for column in zip(*rows, strict=True))
    late = counts >= 500  # buffers are filled by then
    slope = float(np.polyfit(counts[late], sizes[late], 1)[0]) if late.sum() > 2 else float("nan")
    return {
        "frames": int(counts[-1]),
        "mib_at_500_frames": round(float(sizes[late][0]), 1) if late.any() else float("nan"),
        "mib_at_the_end": round(float(sizes[-1]), 1),
        "mib_per_100000_frames": round(slope * 1e5, 2),
        "peak_mib": round(float(last[1]), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=int, default=40, help="length of the film")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--memory", type=int, default=0, metavar="N", help="frames to watch")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    if shutil.which("ffmpeg") is None:
        raise SystemExit("This benchmark makes its H.264 film with ffmpeg; install it first.")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: chosen.cores])
    cv2.setNumThreads(1)  # as `mien video` does
    out: dict[str, Any] = {"system": system(), "film": f"640x480 H.264, {chosen.seconds} s"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        video = folder / "film.mp4"
        make_video(video, chosen.seconds)
        analyzer = Analyzer()
        out["equal_with_and_without_batching"] = same_results(video, analyzer)
        rows: dict[str, list[tuple[float, float]]] = {}
        for _ in range(chosen.repeats):  # in turn, so that a busy minute hits all of them
            for case, run in cases(video, analyzer, folder).items():
                rows.setdefault(case, []).append(measure(run))
        base = statistics.median(fps for fps, _ in rows["decode alone"])
        for case, pairs in rows.items():
            fps = statistics.median(f for f, _ in pairs)
            out.setdefault("cases", {})[case] = {
                "frames_per_s": round(fps, 1),
                "cpu_ms_per_frame": round(statistics.median(c for _, c in pairs), 2),
                "times_decode_alone": round(fps / base, 3),
                **({"target": TARGETS[case]} if case in TARGETS else {}),
            }
        if chosen.memory:
            out["memory"] = memory(video, folder, chosen.memory)
    out["system"]["load_after"] = round(os.getloadavg()[0], 2)
    text = json.dumps(out, indent=1)
    print(text)
    if chosen.json:
        chosen.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
