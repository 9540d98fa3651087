"""What a replica reports of its engine."""

import asyncio

import pytest

from loadgen.records import Phase
from serve_app.telemetry import EngineLoad, EngineReporter, GpuGauge
from serve_app.traffic import CutOff, EngineSample


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


class DeafThenHearing:
    """A monitor that fails the first reports, and ends the reporter where it is over."""

    def __init__(self, deaf: int) -> None:
        self.deaf = deaf
        self.heard: list[EngineSample] = []
        self.is_over = False
        self.report_engine = self

    async def remote(self, sample: EngineSample) -> None:
        if self.is_over:
            raise asyncio.CancelledError
        if self.deaf:
            self.deaf -= 1
            raise ConnectionError
        self.heard.append(sample)


async def test_requests_that_were_cut_off_are_told_until_the_monitor_has_heard_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monitor = DeafThenHearing(deaf=2)
    monkeypatch.setattr("serve_app.telemetry.find_monitor", lambda _app_name: monitor)
    reporter = EngineReporter("app", "replica", 0.001, lambda: EngineLoad(0, 0, 0.0, 0))
    reporter.note_cut_off("tag-1", Phase.PREFILL)
    reporter.note_cut_off("tag-2", Phase.DECODE)
    reporter.start()
    while len(monitor.heard) < 2:
        await asyncio.sleep(0.001)
    reporter.note_cut_off("tag-3", Phase.DECODE)
    heard = len(monitor.heard)
    while len(monitor.heard) < heard + 2:
        await asyncio.sleep(0.001)
    monitor.is_over = True
    while len(asyncio.all_tasks()) > 1:
        await asyncio.sleep(0.001)
    told = [each for sample in monitor.heard for each in sample.cut_off]
    assert told == [CutOff("tag-1", Phase.PREFILL), CutOff("tag-2", Phase.DECODE), CutOff("tag-3", Phase.DECODE)]
    assert monitor.heard[0].cut_off == tuple(told[:2])


async def test_a_replica_that_goes_tells_of_the_tokens_since_its_last_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monitor, made = DeafThenHearing(deaf=0), [0]
    monkeypatch.setattr("serve_app.telemetry.find_monitor", lambda _app_name: monitor)
    reporter = EngineReporter("app", "replica", 3600.0, lambda: EngineLoad(0, 0, 0.0, made[0]))
    await reporter.finish()  # before it was ready there is nothing to tell
    assert monitor.heard == []
    reporter.start()
    while not monitor.heard:
        await asyncio.sleep(0.001)
    made[0] = 37
    await reporter.finish()
    assert [sample.output_tokens for sample in monitor.heard] == [0, 37]
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1, "it reports no more"


async def test_a_replica_that_goes_does_not_wait_for_a_deaf_monitor(monkeypatch: pytest.MonkeyPatch) -> None:
    monitor = DeafThenHearing(deaf=1)
    monkeypatch.setattr("serve_app.telemetry.find_monitor", lambda _app_name: monitor)
    monkeypatch.setattr("serve_app.telemetry.LAST_PUSH_TIMEOUT_S", 0.01)
    reporter = EngineReporter("app", "replica", 3600.0, lambda: EngineLoad(0, 0, 0.0, 0))
    reporter.start()
    while monitor.deaf:
        await asyncio.sleep(0.001)
    monitor.remote = lambda _sample: asyncio.sleep(3600)  # type: ignore[method-assign]
    await asyncio.wait_for(reporter.finish(), 5)


def test_a_gpu_is_read_as_two_shares_or_not_at_all() -> None:
    """On a machine without an NVIDIA driver there is nothing to read, and no error."""
    memory, busy = GpuGauge().read()
    assert (memory is None) == (busy is None)
    if memory is not None and busy is not None:
        assert 0 <= memory <= 1
        assert 0 <= busy <= 1
