"""What the server counts and times, as Prometheus reads it."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
FACTORS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2)
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class Metrics:
    """The metrics of one server. They may be changed from any thread.

    They have a registry of their own, so that several servers in one process, as in tests, do not share them.
    """

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "max_whisper_requests", "Requests that were answered.", ["path", "status"], registry=registry
        )
        self.latency = Histogram(
            "max_whisper_request_seconds",
            "Seconds from the head of a request to the end of its answer.",
            ["path"],
            buckets=SECONDS,
            registry=registry,
        )
        self.running = Gauge("max_whisper_requests_running", "Requests that are worked on or wait.", registry=registry)
        self.queue = Gauge(
            "max_whisper_queue_length", "Requests that wait for their turn to compute.", registry=registry
        )
        self.waiting = Histogram(
            "max_whisper_turn_wait_seconds",
            "Seconds that a request waited for one of its turns, each of which is one window.",
            buckets=SECONDS,
            registry=registry,
        )
        self.streams = Gauge(
            "max_whisper_streams_running", "Sessions of live transcription that run.", registry=registry
        )
        self.stream_lag = Histogram(
            "max_whisper_stream_lag_seconds",
            "Seconds from the arrival of live sound until it was heard.",
            buckets=SECONDS,
            registry=registry,
        )
        self.refused = Counter(
            "max_whisper_refused", "Requests that were refused before any work.", ["code"], registry=registry
        )
        self.cancelled = Counter(
            "max_whisper_cancelled", "Requests whose work was cancelled.", ["code"], registry=registry
        )
        self.audio = Counter(
            "max_whisper_audio_seconds", "Seconds of sound that were transcribed.", ["model"], registry=registry
        )
        self.tokens = Counter("max_whisper_tokens", "Tokens that were written.", ["model"], registry=registry)
        self.computing = Counter(
            "max_whisper_compute_seconds", "Seconds for which windows were computed.", ["model"], registry=registry
        )
        self.real_time_factor = Histogram(
            "max_whisper_real_time_factor",
            "Seconds of computing for each second of a recording, without waiting.",
            ["model"],
            buckets=FACTORS,
            registry=registry,
        )
        self.loaded = Gauge("max_whisper_model_loaded", "Whether a model is loaded.", ["model"], registry=registry)
        self.loading = Histogram(
            "max_whisper_model_load_seconds",
            "Seconds that loading took.",
            ["model"],
            buckets=SECONDS,
            registry=registry,
        )

    def page(self) -> bytes:
        """Returns all metrics in the text format of Prometheus."""
        return generate_latest(self._registry)

    def model_changed(self, name: str, seconds: float | None) -> None:
        """Notes that a model was loaded, in some seconds, or that it was freed, where `seconds` is None."""
        self.loaded.labels(name).set(seconds is not None)
        if seconds is not None:
            self.loading.labels(name).observe(seconds)
