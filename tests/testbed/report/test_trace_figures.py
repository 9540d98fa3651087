"""The charts of a trace's page show the trace's numbers."""

import numpy as np
import pytest

from loadgen.statistics.describe import describe
from loadgen.statistics.description import TraceDescription
from loadgen.statistics.token_lengths import ZipfDescription
from loadgen.trace import Service, Trace, make_trace
from testbed.report.axes import START_MS
from testbed.report.trace_figures_lengths import zipf_density
from testbed.report.trace_page import build_trace_timeline
from testbed.report.trace_verdict import write_trace_verdict
from tests.testbed.report.described_traces import (
    BURST_HOUR,
    FAILING_HOUR,
    HOUR_S,
    charts_of,
    conversations,
    renewal,
    rows_of,
)


def test_the_area_under_the_request_row_is_the_number_of_requests(trace: Trace, description: TraceDescription) -> None:
    for service in Service:
        drawn = rows_of(description)[f"Requests: {service.label}"][service.label]
        widths_s = np.diff(drawn["x"]) / 1000
        counted = np.sum(np.array(drawn["y"][:-1]) * widths_s)
        assert counted == pytest.approx((trace.service == service).sum(), rel=0.01)


def test_the_onset_of_a_burst_is_marked_where_it_begins(description: TraceDescription) -> None:
    marks = rows_of(description)["Requests: api"]["burst begins"]
    assert [(x - START_MS) / 1000 // HOUR_S for x in marks["x"]] == [BURST_HOUR]


def test_an_hour_of_failures_is_marked(description: TraceDescription) -> None:
    row = rows_of(description)["Failures"]
    mark = row["hour far above the usual"]
    assert [(x - START_MS) / 1000 // HOUR_S for x in mark["x"]] == [FAILING_HOUR]
    assert 0.3 < mark["y"][0] < 0.7
    sentence = write_trace_verdict(description)[-1]
    assert "of conversation far more than usual in 1 of" in sentence


@pytest.mark.parametrize(("alpha", "said"), [(0.25, "burstier than"), (1.0, "just like"), (9.0, "more evenly than")])
def test_the_verdict_compares_the_gaps_with_chance(alpha: float, said: str) -> None:
    description = describe(renewal(alpha))
    assert any(f"arrive {said} chance" in sentence for sentence in write_trace_verdict(description))
    drawn = rows_of(description)["Gamma shape alpha"]["conversation"]["y"]
    assert np.median(drawn) == pytest.approx(alpha, rel=0.1)


def test_gaps_of_the_model_lie_on_the_diagonal() -> None:
    chart = charts_of(describe(renewal(0.5)))["quantiles-conversation"]
    layer = chart.layers[0]
    middle = (layer.y > 0.05) & (layer.y < 3)
    assert middle.sum() > 20
    assert layer.x[middle] == pytest.approx(layer.y[middle], rel=0.15)


def test_the_fano_factor_of_a_poisson_stream_stays_near_one() -> None:
    chart = charts_of(describe(renewal(1.0, requests=20000)))["fano"]
    short_windows = chart.layers[0].x <= 60
    assert chart.layers[0].y[short_windows] == pytest.approx(1.0, abs=0.25)
    assert chart.limits == (("Poisson", 1.0),)


def test_a_daily_cycle_shows_in_profile_autocorrelation_and_verdict(description: TraceDescription) -> None:
    charts = charts_of(description)
    profile = charts["profile-conversation"].layers[0].y[:-1]
    assert len(profile) == 24
    assert profile[8:20] == pytest.approx(60.0)
    assert not profile[:8].any()
    lags = charts["autocorrelation"].layers[0]
    assert lags.y[list(lags.x).index(24.0)] > 0.9
    assert any("Conversation repeats with the day" in sentence for sentence in write_trace_verdict(description))


def test_the_zipf_curve_is_the_probability_of_each_length() -> None:
    lengths, density = zipf_density(ZipfDescription(1.1, 16, 1600, False, 0.0))
    every = np.arange(16, 1601) ** -1.1
    assert density == pytest.approx(lengths**-1.1 / every.sum())
    far, far_density = zipf_density(ZipfDescription(1.5, 1, 2_000_000, False, 0.0))
    assert far_density[0] == pytest.approx(1 / (np.arange(1, 2_000_001) ** -1.5).sum(), rel=1e-6)
    assert far[-1] == pytest.approx(2_000_000)


def test_the_histograms_hold_every_length(trace: Trace, description: TraceDescription) -> None:
    charts = charts_of(description)
    for layer in charts["output-lengths"].layers:
        steps = np.log(layer.x[1:] / layer.x[:-1]) / np.log(1.1)
        assert np.sum(layer.y[:-1] * steps) == pytest.approx(100.0)
    heat_map = charts["relation"].heat_map
    assert heat_map is not None
    assert heat_map.counts.sum() == np.sum((trace.prompt_tokens > 0) & (trace.output_tokens > 0))


def test_conversations_are_drawn_where_sessions_are_known() -> None:
    charts = charts_of(describe(conversations()))
    assert charts["growth"].layers[0].y == pytest.approx([50, 150, 250])
    assert "+100 tokens" in charts["growth"].caption
    assert charts["turns"].layers[0].x.tolist() == [3.0]
    assert "Half of the next turns of conversation come within 1 min" in charts["intervals"].caption
    assert "50 ms in the middle of conversation" in charts["elapsed"].caption


def test_a_window_far_from_the_others_does_not_press_them_together() -> None:
    rng = np.random.default_rng(2)
    clock_s = np.arange(1200) * 1.0 + rng.uniform(0, 1e-4, 1200)
    chance_s = 1200 + np.sort(rng.uniform(0, 6 * 1200, 6000))
    arrival_s = np.concatenate([clock_s, chance_s])
    trace = make_trace("clock", arrival_s, [5] * len(arrival_s), [5] * len(arrival_s), duration_s=7 * 1200.0)
    timeline, _ = build_trace_timeline(describe(trace))
    (header,) = [header for header in timeline.headers if header.title == "Gamma shape alpha"]
    drawn = timeline.figure["data"][header.entries[0].trace]["y"]
    assert 20 < drawn[0] < 50, "at the edge"
    assert np.array(drawn[1:]) == pytest.approx(1.0, abs=0.2)
    assert "drawn at the edge" in header.note
