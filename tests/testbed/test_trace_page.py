"""The page of a trace shows the trace's numbers, says why a chart is missing, escapes names, loads nothing."""

import json
import re
from pathlib import Path

import numpy as np
import plotly.graph_objects
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from loadgen.errors import InputError
from loadgen.statistics.describe import describe
from loadgen.statistics.description import TraceDescription
from loadgen.statistics.token_lengths import ZipfDescription
from loadgen.trace import Service, Trace, make_trace
from loadgen.trace_file import save_trace
from testbed.cli import app
from testbed.report.axes import START_MS
from testbed.report.chart_figures import draw_chart, legend
from testbed.report.charts import Chart
from testbed.report.trace_figures_lengths import zipf_density
from testbed.report.trace_page import build_sections, build_trace_timeline, render_trace_page, write_trace_page
from testbed.report.trace_tables import COLUMNS, key_figures, short, traffic_table
from testbed.report.trace_verdict import write_trace_verdict

HOUR_S, DAY_S = 3600.0, 86400.0
BURST_HOUR, FAILING_HOUR = 61, 80


def days_of_traffic() -> Trace:
    """Five days: conversation at one request a minute by day, none at night; one burst; an hour of failures."""
    rng = np.random.default_rng(3)
    hours = [hour for hour in range(120) if 8 <= hour % 24 < 20]
    talk_s = np.concatenate([hour * HOUR_S + rng.uniform(0, HOUR_S, 60) for hour in hours])
    batch_s = BURST_HOUR * HOUR_S + np.sort(rng.uniform(0, HOUR_S, 2000))
    arrival_s = np.concatenate([talk_s, batch_s])
    output_tokens = rng.integers(20, 200, len(arrival_s))
    output_tokens[(arrival_s // HOUR_S == FAILING_HOUR) & (rng.random(len(arrival_s)) < 0.5)] = 0
    order = np.argsort(arrival_s, kind="stable")
    return make_trace(
        "five days",
        arrival_s[order],
        rng.integers(5, 2000, len(arrival_s)),
        output_tokens[order],
        duration_s=5 * DAY_S,
        service=np.repeat([Service.CONVERSATION, Service.API], [len(talk_s), len(batch_s)])[order],
        model=rng.integers(0, 2, len(arrival_s)),
        model_names=("ChatGPT", "GPT-4"),
    )


def renewal(alpha: float, requests: int = 6000, mean_gap_s: float = 1.0) -> Trace:
    """Gamma gaps of one shape."""
    gaps_s = np.random.default_rng(5).gamma(alpha, mean_gap_s / alpha, requests)
    arrival_s = np.cumsum(gaps_s)
    return make_trace("renewal", arrival_s, [100] * requests, [10] * requests, duration_s=float(arrival_s[-1]) + 1)


def conversations() -> Trace:
    """Forty sessions of three turns 50 and 70 s apart, each prompt 100 tokens longer than the one before."""
    starts_s = np.arange(40) * 10.0
    arrival_s = (starts_s[:, None] + np.array([0.0, 50.0, 120.0])).ravel()
    order = np.argsort(arrival_s, kind="stable")
    return make_trace(
        "talks",
        arrival_s[order],
        np.tile([50, 150, 250], 40)[order],
        np.full(120, 20),
        duration_s=1000.0,
        session=np.repeat(np.arange(40), 3)[order],
        elapsed_s=np.linspace(0.9, 1.1, 120),
    )


@pytest.fixture(scope="module")
def trace() -> Trace:
    return days_of_traffic()


@pytest.fixture(scope="module")
def description(trace: Trace) -> TraceDescription:
    return describe(trace)


def charts_of(description: TraceDescription) -> dict[str, Chart]:
    """The charts by key."""
    return {chart.key: chart for section in build_sections(description) for chart in section.charts}


def reasons_of(description: TraceDescription) -> dict[str, str]:
    """Why charts are missing, by title."""
    return {chart.title: chart.reason for section in build_sections(description) for chart in section.absent}


def rows_of(description: TraceDescription) -> dict[str, dict[str, dict]]:
    """The traces of the figure over time, by the title of the row and the label."""
    timeline, _ = build_trace_timeline(description)
    return {
        header.title: {entry.label: timeline.figure["data"][entry.trace] for entry in header.entries}
        for header in timeline.headers
    }


def test_the_table_has_the_totals_of_every_service_and_model(trace: Trace, description: TraceDescription) -> None:
    rows = {row.label: row.cells for row in traffic_table(description) if row.kind != "sub"}
    for service in Service:
        mine = trace.service == service
        assert rows[service.label][0] == f"{mine.sum():,}"
        assert rows[service.label][4] == short(int(trace.prompt_tokens[mine].sum()))
        assert rows[service.label][8].startswith(f"{(trace.output_tokens[mine] == 0).sum():,} (")
    assert rows["all"][0] == f"{len(trace):,}"
    models = [row.cells[0] for row in traffic_table(description) if row.kind == "sub"]
    assert models[-2:] == [f"{(trace.model == model).sum():,}" for model in (0, 1)]


def test_the_tiles_hold_size_and_rate(trace: Trace, description: TraceDescription) -> None:
    tiles = {tile.label: tile for tile in key_figures(description)}
    assert tiles["Requests"].value == f"{len(trace):,}"
    assert (tiles["Duration"].value, tiles["Duration"].unit) == ("5", "days")
    busiest = np.bincount((trace.arrival_s // 10).astype(int)).max() / 10
    assert float(tiles["Peak rate"].value) == pytest.approx(busiest, rel=0.01)
    by_hour = np.bincount((trace.arrival_s // HOUR_S).astype(int), minlength=120)
    times = float(tiles["Busiest hour"].value.removesuffix("x"))
    assert times == pytest.approx(by_hour.max() / by_hour.mean(), rel=0.01)


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
    assert "Half of the next turns of conversation come within 60 s" in charts["intervals"].caption
    assert "50 ms in the middle of conversation" in charts["elapsed"].caption


def test_a_missing_chart_says_why(description: TraceDescription) -> None:
    reasons = reasons_of(description)
    assert "does not say which requests belong together" in reasons["Turns, pauses and growth of the prompt"]
    assert "does not say how long answers took" in reasons["Elapsed time per response token"]
    hour = describe(renewal(1.0))
    assert "it takes a day or more" in reasons_of(hour)["An average week of conversation"]
    page = render_trace_page(hour, "file.csv")
    for title in reasons_of(hour):
        assert f"{title}: not drawn, since " in page


EMPTY: list[int] = []


@pytest.mark.parametrize(
    ("arrivals_s", "prompts", "outputs", "duration_s", "said"),
    [
        (EMPTY, EMPTY, EMPTY, 10.0, "no requests"),
        ([1.0], [5], [7], 10.0, "only 1 request:"),
        ([1.0], [0], [0], 0.5e7, "only 1 request:"),
        ([0.0] * 50, [7] * 50, [7] * 50, 1.0, "requests/s on average"),
        ([5.0 * place for place in range(100)], [5] * 100, [0] * 100, 10_000.0, "Every request failed"),
        ([0.0, 0.05, 0.07], [0, 0, 0], [1, 2, 3], 0.1, "only 3 requests:"),
        ([800.0 * place for place in range(1000)], [5] * 1000, [2_000_000_000] * 1000, 800_000.0, "more evenly than"),
    ],
)
def test_odd_traces_have_a_page(
    arrivals_s: list[float], prompts: list[int], outputs: list[int], duration_s: float, said: str
) -> None:
    arrivals = np.minimum(np.array(arrivals_s, dtype=np.float64), np.nextafter(duration_s, 0))
    prompt_tokens, output_tokens = np.array(prompts, dtype=int), np.array(outputs, dtype=int)
    description = describe(make_trace("odd", arrivals, prompt_tokens, output_tokens, duration_s=duration_s))
    page = render_trace_page(description, "odd.csv")
    assert said in page or said == "more evenly than"
    for word in ("nan", "None", "inf"):
        outside = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)
        assert not re.search(rf"\b{word}\b", outside), f"'{word}' is shown"


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_every_trace_has_a_page_of_figures_that_can_be_written(data: st.DataObject) -> None:
    requests = data.draw(st.integers(0, 60))
    duration_s = data.draw(st.sampled_from([0.5, 30.0, 4000.0, 3 * DAY_S, 40 * DAY_S]))
    places = data.draw(st.lists(st.integers(0, 999), min_size=requests, max_size=requests))
    tokens = st.lists(st.sampled_from([0, 1, 2, 50, 4000, 2**31 - 1]), min_size=requests, max_size=requests)
    trace = make_trace(
        "drawn",
        np.sort(np.array(places, dtype=np.float64) / 1000 * duration_s),
        np.array(data.draw(tokens), dtype=np.int64),
        np.array(data.draw(tokens), dtype=np.int64),
        duration_s=duration_s,
        service=np.arange(requests) % data.draw(st.integers(1, 2)),
        session=np.arange(requests) % data.draw(st.integers(1, 60)),
        elapsed_s=np.arange(requests) * data.draw(st.sampled_from([0.0, 0.5])),
    )
    description = describe(trace)
    timeline, _ = build_trace_timeline(description)
    json.dumps(timeline.figure, allow_nan=False)
    for chart in charts_of(description).values():
        figure = draw_chart(chart)
        json.dumps(figure, allow_nan=False)
        plotly.graph_objects.Figure(figure)
        for axis in ("xaxis", "yaxis"):
            low, high = figure["layout"][axis]["range"]
            assert low < high
    for tile in key_figures(description):
        assert "nan" not in tile.value
        assert "inf" not in tile.value


def test_every_figure_is_one_that_plotly_accepts(description: TraceDescription) -> None:
    timeline, missing = build_trace_timeline(description)
    plotly.graph_objects.Figure(timeline.figure)
    assert missing == []
    for each in (description, describe(conversations()), describe(renewal(0.3))):
        for chart in charts_of(each).values():
            plotly.graph_objects.Figure(draw_chart(chart))
            assert all(entry.trace < len(chart.layers) for entry in legend(chart))


def test_every_chart_has_a_caption_and_a_text_alternative(description: TraceDescription) -> None:
    page = render_trace_page(description, "file.csv")
    charts = charts_of(description)
    assert page.count('role="img" aria-label="') == len(charts)
    assert page.count("<figcaption>") == len(charts)
    assert all(chart.caption.endswith(".") for chart in charts.values())


def test_names_do_not_become_markup_and_nothing_is_loaded(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script><img src=x>"
    trace = make_trace(evil, [1.0, 2.0], [5, 5], [6, 6], duration_s=10.0, model=[0, 1], model_names=(evil, "other"))
    path = write_trace_page(describe(trace), tmp_path / "page.html", evil)
    page = path.read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "<img" not in page
    outside_scripts = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"(src|href)=\"(?!data:)", outside_scripts)
    assert "default-src 'none'" in outside_scripts


def test_rows_of_tables_have_a_cell_for_every_column(description: TraceDescription) -> None:
    for each in (description, describe(conversations()), describe(renewal(0.3))):
        sections = build_sections(each)
        tables = [table for section in sections for _, table in section.tables]
        tables += [chart.table for section in sections for chart in section.charts if chart.table]
        assert len(tables) > 5
        for table in tables:
            assert {len(row) for row in table.rows} <= {len(table.columns)}
        assert {len(row.cells) for row in traffic_table(each)} == {len(COLUMNS)}


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


def test_the_command_writes_the_page_once(tmp_path: Path) -> None:
    save_trace(conversations(), tmp_path / "talks.parquet")
    page = tmp_path / "talks.html"
    command = ["trace", "describe", str(tmp_path / "talks.parquet"), "--html", str(page)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0
    assert str(page) in result.stdout.replace("\n", "")
    assert "talks.parquet" in page.read_text(encoding="utf-8")
    again = CliRunner().invoke(app, command)
    assert isinstance(again.exception, InputError)
    assert "exists already; give --html a new file" in str(again.exception)


def test_four_months_give_a_small_page(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    requests, duration_s = 400_000, 121 * DAY_S
    arrival_s = np.sort(rng.uniform(0, duration_s, requests))
    trace = make_trace(
        "months",
        arrival_s,
        rng.integers(1, 8000, requests),
        rng.integers(0, 2000, requests),
        duration_s=duration_s,
        service=rng.integers(0, 2, requests),
    )
    page = write_trace_page(describe(trace), tmp_path / "page.html", "months.csv")
    assert page.stat().st_size < 6e6
