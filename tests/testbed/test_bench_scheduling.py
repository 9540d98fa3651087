"""The comparison of an engine's options: equal traffic in every case, and no difference where nothing has to wait."""

import pytest

from testbed import bench_scheduling
from testbed.bench_scheduling import CASES, FIGURES, two_services


@pytest.fixture(autouse=True)
def short_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_scheduling, "DURATION_S", 120.0)


def test_without_load_the_options_change_nothing() -> None:
    cases = bench_scheduling.bench_scheduling("h200-llama-3-8b", 0.2, 2, lambda _: None)
    assert [case.name for case in cases] == list(CASES)
    for case in cases:
        assert list(case.mean) == list(FIGURES)
        assert case.mean["preemptions_percent"] == 0
        assert case.mean["e2e_mean_s"] == pytest.approx(cases[0].mean["e2e_mean_s"], rel=0.01)


def test_changes_are_those_from_the_first_case_on_the_same_traffic() -> None:
    cases = bench_scheduling.bench_scheduling("rtx4090-llama-3-8b", 4.0, 2, lambda _: None)
    assert set(cases[0].change.values()) == set(cases[0].change_margin.values()) == {0.0}
    for case in cases:
        for name in FIGURES:
            assert case.change[name] == pytest.approx(case.mean[name] - cases[0].mean[name], abs=1e-9)
    changed = {case.name: case.change["conversation_ttft_mean_s"] for case in cases}
    assert changed["priority"] < 0


def test_an_hour_has_both_services_at_the_rate_asked_for() -> None:
    trace = two_services(20.0, seed=1)
    assert len(trace) == pytest.approx(20.0 * 120, rel=0.2)
    assert trace.service.mean() == pytest.approx(0.3, abs=0.05)
