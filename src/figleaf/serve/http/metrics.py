"""What the server counts, in Prometheus' text format: requests, pictures, batches, the queue."""

from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import generate_latest

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The server's metrics, in a registry of their own: two servers in one process do not add up.

    `waiting` gives the pictures that wait or are being scored, `held` the bytes of bodies that are held.
    """

    def __init__(self, waiting: Callable[[], float], held: Callable[[], float]) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self.requests = Counter(
            "figleaf_requests_total", "Requests by route and status", ["route", "status"], registry=self._registry
        )
        self.seconds = Histogram(
            "figleaf_request_seconds",
            "Seconds from a request's headers to its answer",
            ["route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.pictures = Counter(
            "figleaf_pictures_total", "Pictures by status; 200 has a score", ["status"], registry=self._registry
        )
        self.batch_size = Histogram(
            "figleaf_batch_size", "Pictures scored at once", buckets=_SIZES, registry=self._registry
        )
        self.batch_seconds = Histogram(
            "figleaf_batch_seconds", "Seconds of scoring a batch", buckets=_SECONDS, registry=self._registry
        )
        queue = Gauge("figleaf_queue_pictures", "Pictures that wait or are being scored", registry=self._registry)
        queue.set_function(waiting)
        bodies = Gauge("figleaf_held_bytes", "Bytes of bodies that are held", registry=self._registry)
        bodies.set_function(held)

    def text(self) -> bytes:
        """All of them, as Prometheus reads them."""
        return generate_latest(self._registry)
