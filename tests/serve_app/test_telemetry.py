"""What a replica reports of its engine."""

import pytest

from serve_app.telemetry import EngineLoad, EngineReporter, GpuGauge


def test_samples_hold_the_tokens_made_since_the_sample_before() -> None:
    """No token is counted twice or lost between two samples."""
    loads = [EngineLoad(1, 0, 0.1, 40), EngineLoad(3, 2, 0.5, 100)]
    reporter = EngineReporter("app", "replica", 1.0, lambda: loads[0])
    first = reporter.sample()
    loads.pop(0)
    second = reporter.sample()
    assert (first.output_tokens, second.output_tokens) == (40, 60)
    assert (second.replica_id, second.running, second.waiting, second.kv_cache_fraction) == ("replica", 3, 2, 0.5)
    assert second.time_s == pytest.approx(first.time_s + second.interval_s)


def test_serve_gets_the_engines_state_now_and_the_rate_of_the_last_interval() -> None:
    """Numbers only: Serve switches the metrics off for good at the first wrong type."""
    reporter = EngineReporter("app", "replica", 1.0, lambda: EngineLoad(1, 2, 0.3, 40))
    assert reporter.autoscaling_stats()["tokens_per_s"] == 0.0
    sample = reporter.sample()
    assert reporter.autoscaling_stats() == {
        "running": 1,
        "waiting": 2,
        "kv_cache_fraction": 0.3,
        "tokens_per_s": sample.tokens_per_s,
    }


def test_a_gpu_is_read_as_two_shares_or_not_at_all() -> None:
    """On a machine without an NVIDIA driver there is nothing to read, and no error."""
    memory, busy = GpuGauge().read()
    assert (memory is None) == (busy is None)
    if memory is not None and busy is not None:
        assert 0 <= memory <= 1
        assert 0 <= busy <= 1
