from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from hermes_apprentice.router.metrics import Metrics
from hermes_apprentice.statistics.risk_control import ClassBound


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def test_calls_are_counted_with_their_durations() -> None:
    metrics = Metrics()
    metrics.call("first", "specialist", 200, 0.004, 0.005)
    metrics.call("first", "specialist", 200, 0.5, 70)
    found = samples(metrics)
    labels = (("kind", "first"), ("route", "specialist"), ("status", "200"))
    assert found["apprentice_calls_total", labels] == 2
    route = ("route", "specialist")
    bucket = "apprentice_overhead_seconds_bucket"
    assert found[bucket, (("le", "0.005"), route)] == 1
    assert found[bucket, (("le", "+Inf"), route)] == 2
    assert found["apprentice_latency_seconds_sum", (route,)] == 70.005


def test_values_of_the_moment_are_asked_for() -> None:
    metrics = Metrics()
    metrics.gauges = lambda: {"shadow_waiting": 3.0}
    metrics.in_flight = 2
    found = samples(metrics)
    assert found["apprentice_shadow_waiting", ()] == 3
    assert found["apprentice_in_flight", ()] == 2


def test_each_pattern_has_its_threshold_and_its_bound() -> None:
    metrics = Metrics()
    metrics.bounds = lambda: {
        "label-ticket": ClassBound(
            threshold=0.4, rate=0.005, upper=0.002, confidence=0.95, background=900, false_routes=1
        )
    }
    found, label = samples(metrics), (("slug", "label-ticket"),)
    assert found["apprentice_matcher_threshold", label] == 0.4
    assert found["apprentice_matcher_false_route_bound", label] == 0.002
    assert found["apprentice_matcher_false_route_confidence", label] == 0.95
    assert found["apprentice_matcher_false_routes_seen", label] == 1
    assert found["apprentice_matcher_other_requests", label] == 900


def test_two_sidecars_in_one_process_do_not_share_counters() -> None:
    one, other = Metrics(), Metrics()
    one.faults["matcher"] += 1
    assert ("apprentice_faults_total", (("part", "matcher"),)) in samples(one)
    assert ("apprentice_faults_total", (("part", "matcher"),)) not in samples(other)
