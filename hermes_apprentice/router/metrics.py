"""The sidecar's counters, in Prometheus' format.

Plain numbers that a request can bump in a microsecond; they become metrics only
when somebody asks. Knows nothing about routing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from hermes_apprentice.statistics.risk_control import ClassBound

_BUCKETS = (
    0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
)  # fmt: skip

_OF_BOUNDS: tuple[tuple[str, str, Callable[[ClassBound], float]], ...] = (
    ("threshold", "Least score at which a pattern takes a request.", lambda one: one.threshold),
    (
        "false_route_bound",
        "Upper bound of the share of other requests that a pattern takes.",
        lambda one: one.upper,
    ),
    (
        "false_route_confidence",
        "Confidence of that bound, for the pattern by itself.",
        lambda one: one.confidence,
    ),
    (
        "false_routes_seen",
        "Other requests that a pattern took when the matcher was fitted, held out.",
        lambda one: one.false_routes,
    ),
    (
        "other_requests",
        "Other requests that the bound was judged on.",
        lambda one: one.background,
    ),
)


class Histogram:
    """Durations in fixed buckets."""

    def __init__(self) -> None:
        self._counts = [0] * (len(_BUCKETS) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self._counts[bisect_left(_BUCKETS, seconds)] += 1
        self._sum += seconds

    def buckets(self) -> tuple[list[tuple[str, float]], float]:
        """Return cumulative counts by upper edge, and the sum."""
        running, found = 0, []
        for edge, count in zip((*map(str, _BUCKETS), "+Inf"), self._counts, strict=True):
            running += count
            found.append((edge, float(running)))
        return found, self._sum


class Metrics:
    """Every counter of one sidecar."""

    def __init__(self) -> None:
        self.calls: Counter[tuple[str, str, str]] = Counter()
        """By kind of call, route and status."""

        self.overhead: dict[str, Histogram] = {}
        """Our own time, by route."""

        self.latency: dict[str, Histogram] = {}
        """Time until the last byte, by route."""

        self.specialists: Counter[tuple[str, str]] = Counter()
        """What a specialist did with a request, by slug and result."""

        self.comparisons: Counter[tuple[str, str, str]] = Counter()
        """By slug, origin and result."""

        self.upstream_requests: Counter[tuple[str, str]] = Counter()
        """What was asked of each endpoint, by its name and the status, or what went wrong."""

        self.upstream_problems: Counter[str] = Counter()
        """Upstream calls that failed, by what happened."""

        self.faults: Counter[str] = Counter()
        """Failures on our side that a request survived, by part."""

        self.refused: Counter[str] = Counter()
        """Requests turned away for the want of a key or a quota, by reason."""

        self.in_flight = 0
        """Requests being worked on."""

        self.resting: Callable[[], dict[str, bool]] = dict
        """Asked which upstream endpoints keep failing."""

        self.bounds: Callable[[], Mapping[str, ClassBound]] = dict
        """Asked what is proven about the false routes of each pattern."""

        self.gauges: Callable[[], dict[str, float]] = dict
        """Asked for further values when somebody looks."""

        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def call(self, kind: str, route: str, status: int, overhead: float, latency: float) -> None:
        """Count one call; durations in seconds."""
        self.calls[kind, route, str(status)] += 1
        if route not in self.overhead:
            self.overhead[route], self.latency[route] = Histogram(), Histogram()
        self.overhead[route].observe(overhead)
        self.latency[route].observe(latency)

    def render(self) -> bytes:
        """Return the text that Prometheus reads."""
        return bytes(generate_latest(self._registry))

    def collect(self) -> Iterator[Any]:
        """Yield the metrics; called by the registry."""
        yield _counter("calls", "Routed calls.", ("kind", "route", "status"), self.calls)
        yield _counter(
            "specialist_requests",
            "What specialists did with requests.",
            ("slug", "result"),
            self.specialists,
        )
        yield _counter(
            "comparisons",
            "Specialist beside upstream.",
            ("slug", "origin", "result"),
            self.comparisons,
        )
        yield _counter(
            "upstream_requests",
            "Requests sent to each endpoint.",
            ("tier", "result"),
            self.upstream_requests,
        )
        yield _counter(
            "upstream_problems",
            "Upstream calls that failed.",
            ("problem",),
            {(name,): count for name, count in self.upstream_problems.items()},
        )
        yield _counter(
            "faults",
            "Failures of our own that the upstream made up for.",
            ("part",),
            {(name,): count for name, count in self.faults.items()},
        )
        yield _counter(
            "refused",
            "Requests turned away.",
            ("reason",),
            {(reason,): count for reason, count in self.refused.items()},
        )
        for name, text, histograms in (
            ("overhead_seconds", "Time spent by the sidecar.", self.overhead),
            ("latency_seconds", "Time until the last byte.", self.latency),
        ):
            family = HistogramMetricFamily(f"apprentice_{name}", text, labels=("route",))
            for route, histogram in sorted(histograms.items()):
                buckets, total = histogram.buckets()
                family.add_metric((route,), buckets, total)
            yield family
        resting = GaugeMetricFamily(
            "apprentice_upstream_resting", "Endpoints that keep failing.", labels=("tier",)
        )
        for name, rests in self.resting().items():
            resting.add_metric((name,), float(rests))
        yield resting
        bounds = sorted(self.bounds().items())
        for name, text, value_of in _OF_BOUNDS:
            family = GaugeMetricFamily(f"apprentice_matcher_{name}", text, labels=("slug",))
            for slug, bound in bounds:
                family.add_metric((slug,), value_of(bound))
            yield family
        values = {"in_flight": float(self.in_flight), **self.gauges()}
        for name, value in sorted(values.items()):
            yield GaugeMetricFamily(f"apprentice_{name}", name.replace("_", " "), value=value)


def _counter(
    name: str, text: str, labels: tuple[str, ...], counts: dict[Any, int]
) -> CounterMetricFamily:
    family = CounterMetricFamily(f"apprentice_{name}", text, labels=labels)
    for values, count in sorted(counts.items()):
        family.add_metric(values, count)
    return family
