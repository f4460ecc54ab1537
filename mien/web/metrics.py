"""What ``/metrics`` tells, kept by prometheus-client in a registry of the application's own."""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

#: Upper bounds of the histograms, in seconds.
BUCKETS = (0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

#: Content type of the exposition format.
MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class Metrics:
    """Everything that ``/metrics`` tells. No image, name or address of a client is in it.

    Attributes:
        active, streams: requests and WebSockets that are open; the limits read them too.
    """

    def __init__(self, version: str, model: str) -> None:
        self.active = 0
        self.streams = 0
        self.registry = registry = CollectorRegistry()
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        histogram = partial(Histogram, buckets=BUCKETS, registry=registry)
        info = gauge("mien_info", "What is running.", ("version", "model"))
        info.labels(version, model).set(1)
        route = ("route", "method", "status")
        self._requests = counter("mien_requests", "Answered requests.", route)
        self._request_seconds = histogram(
            "mien_request_seconds", "From a request's head to the end of its answer.", ("route",)
        )
        self.images = counter("mien_images", "Images by outcome.", ("outcome",))
        self.frames = counter("mien_frames", "WebSocket frames by outcome.", ("outcome",))
        self.faces = counter("mien_faces", "Faces found.")
        self.analysis_seconds = histogram("mien_analysis_seconds", "Work on one image.")
        self.frame_seconds = histogram(
            "mien_frame_seconds", "From a frame's arrival to its answer."
        )
        active = gauge("mien_active_requests", "Requests being worked on.")
        active.set_function(lambda: self.active)
        gauge("mien_streams", "Open WebSockets.").set_function(lambda: self.streams)
        ProcessCollector(registry=registry)

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        self._requests.labels(route, method, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def value(self, name: str, **labels: str) -> float:
        """One sample, e.g. ``value("mien_frames_total", outcome="read")``; 0 before the first."""
        return self.registry.get_sample_value(name, labels) or 0.0

    def render(self) -> bytes:
        return generate_latest(self.registry)
