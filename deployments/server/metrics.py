"""What `/metrics` says, in Prometheus' text form: requests, tokens, times, and who waits."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)


class Metrics:
    """The counters of one server."""

    def __init__(self, running: Callable[[], int], waiting: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        made = partial(Counter, registry=self._registry, namespace="llmill")
        self.requests = made("requests", "Requests that were answered.", ["route", "status"])
        self.tokens = made("tokens", "Tokens of prompts, of them read before, and made.", ["model", "kind"])
        self.moderated = made(
            "moderated", "Verdicts on prompts, sentences of answers and texts asked about.", ["place", "category"]
        )
        self.refused = made("refused_models", "New champions that could not be served.")
        self.seconds = Histogram(
            "request_seconds",
            "Until an answer's end.",
            ["route"],
            buckets=SECONDS,
            registry=self._registry,
            namespace="llmill",
        )
        for name, text, read in (
            ("running", "Requests under way.", running),
            ("waiting", "Requests in line.", waiting),
        ):
            Gauge(name, text, registry=self._registry, namespace="llmill").set_function(read)

    def count_tokens(self, model: str, usage: Mapping[str, Any]) -> None:
        """Add what a request has used."""
        self.tokens.labels(model, "prompt").inc(usage["prompt_tokens"])
        self.tokens.labels(model, "cached").inc(usage["prompt_tokens_details"]["cached_tokens"])
        self.tokens.labels(model, "made").inc(usage["completion_tokens"])

    def count_verdict(self, place: str, flagged: Sequence[str]) -> None:
        """Add a verdict to each category that it names, else to `none`."""
        for category in flagged or ("none",):
            self.moderated.labels(place, category).inc()

    def text(self) -> bytes:
        """The page."""
        return generate_latest(self._registry)
