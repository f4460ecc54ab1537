"""Counters of the server in Prometheus' text format. One event loop writes them: no locks."""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from collections import Counter

#: Upper bounds of the histograms, in seconds.
BUCKETS = (0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

#: Content type of the exposition format.
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Histogram:
    """Times in :data:`BUCKETS`."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BUCKETS) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Add one time."""
        self._counts[bisect_left(BUCKETS, seconds)] += 1
        self._sum += seconds

    def lines(self, name: str, labels: str = "") -> list[str]:
        """The samples; ``labels`` is ``a="b"`` or empty."""
        comma = "," if labels else ""
        out, total = [], 0
        for bound, count in zip((*map(str, BUCKETS), "+Inf"), self._counts, strict=True):
            total += count
            out.append(f'{name}_bucket{{{labels}{comma}le="{bound}"}} {total}')
        braces = f"{{{labels}}}" if labels else ""
        return [*out, f"{name}_sum{braces} {self._sum:.6f}", f"{name}_count{braces} {total}"]


class Metrics:
    """Everything that ``/metrics`` tells. No picture, name or address of a client is in it."""

    def __init__(self, version: str, model: str) -> None:
        self._info = f'version="{_escape(version)}",model="{_escape(model)}"'
        self._started = time.time()
        self.requests: Counter[tuple[str, str, int]] = Counter()
        self.images: Counter[str] = Counter()
        self.frames: Counter[str] = Counter()
        self.faces = 0
        self.active = 0
        self.streams = 0
        self.request_seconds: dict[str, Histogram] = {}
        self.analysis_seconds = Histogram()
        self.frame_seconds = Histogram()

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        self.requests[route, method, status] += 1
        self.request_seconds.setdefault(route, Histogram()).observe(seconds)

    def render(self) -> str:
        """The page."""
        out: list[str] = []

        def family(name: str, kind: str, help_text: str, samples: list[str]) -> None:
            out.extend([f"# HELP {name} {help_text}", f"# TYPE {name} {kind}", *samples])

        family("mien_info", "gauge", "What is running.", [f"mien_info{{{self._info}}} 1"])
        family(
            "mien_requests_total",
            "counter",
            "Answered HTTP requests.",
            [
                f'mien_requests_total{{route="{r}",method="{m}",status="{s}"}} {n}'
                for (r, m, s), n in sorted(self.requests.items())
            ],
        )
        family(
            "mien_request_seconds",
            "histogram",
            "From a request's head to the end of its answer.",
            [
                line
                for route, histogram in sorted(self.request_seconds.items())
                for line in histogram.lines("mien_request_seconds", f'route="{route}"')
            ],
        )
        for name, text, counts in (
            ("mien_images_total", "Pictures by outcome.", self.images),
            ("mien_frames_total", "WebSocket frames by outcome.", self.frames),
        ):
            rows = [f'{name}{{outcome="{key}"}} {n}' for key, n in sorted(counts.items())]
            family(name, "counter", text, rows)
        family("mien_faces_total", "counter", "Faces found.", [f"mien_faces_total {self.faces}"])
        for name, text, histogram in (
            ("mien_analysis_seconds", "Work on one picture.", self.analysis_seconds),
            ("mien_frame_seconds", "From a frame's arrival to its answer.", self.frame_seconds),
        ):
            family(name, "histogram", text, histogram.lines(name))
        for name, text, value in (
            ("mien_active_requests", "Requests being worked on.", self.active),
            ("mien_streams", "Open WebSockets.", self.streams),
            ("process_start_time_seconds", "Start, Unix time.", round(self._started, 3)),
            ("process_resident_memory_bytes", "Resident memory.", resident_bytes()),
        ):
            family(name, "gauge", text, [f"{name} {value}"])
        return "\n".join(out) + "\n"


def resident_bytes() -> int:
    """Resident memory of this process; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - hot, no Path
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return 0


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
