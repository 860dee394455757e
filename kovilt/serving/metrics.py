"""What /metrics tells Prometheus."""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

FOLDER = 'PROMETHEUS_MULTIPROC_DIR'  # names a folder in which several processes sum up their metrics
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The metrics of one service."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter('kovilt_requests', 'Requests that have ended', ['route', 'status'], registry=registry)
        self.request_seconds = Histogram(
            'kovilt_request_seconds',
            'From the header to the end of the answer',
            ['route'],
            registry=registry,
        )
        self.queue_length = Gauge(
            'kovilt_queue_length',
            'Requests that are read or answered now',
            registry=registry,
            multiprocess_mode='livesum',
        )
        self.batch_pairs = Histogram(
            'kovilt_batch_pairs', 'Pairs in a batch of the model', registry=registry, buckets=_BATCH_SIZES
        )
        self.batch_seconds = Histogram('kovilt_batch_seconds', 'Of the model for a batch', registry=registry)
        self.abstained = Counter('kovilt_abstained', 'Questions answered with the abstention', registry=registry)
        self.images = Counter('kovilt_images', 'Images, read or found prepared', ['source'], registry=registry)
        self.reloads = Counter('kovilt_reloads', 'Times that the model was loaded anew', ['result'], registry=registry)
        if FOLDER not in os.environ:
            ProcessCollector(registry=registry)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format; with several processes those of all."""
        if FOLDER not in os.environ:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
        return generate_latest(registry)
