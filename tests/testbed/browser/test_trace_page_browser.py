"""The page of a trace in a real browser: every plot is drawn, nothing is asked of the network, no error is logged."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loadgen.statistics.describe import describe
from loadgen.trace import make_trace
from testbed.report.trace_page import build_sections, write_trace_page

pytestmark = pytest.mark.browser

DAY_S = 86400.0


@pytest.fixture(scope="module")
def traffic() -> Any:
    """Nine days of two services and two models with sessions, failures and elapsed times: every chart has something."""
    rng = np.random.default_rng(8)
    requests, duration_s = 12_000, 9 * DAY_S
    by_day = rng.uniform(0, 1, requests) ** 2 * DAY_S
    arrival_s = np.sort(rng.integers(0, 9, requests) * DAY_S + by_day)
    output_tokens = np.where(rng.random(requests) < 0.5, rng.poisson(10, requests) + 1, rng.poisson(300, requests))
    output_tokens[rng.random(requests) < 0.02] = 0
    return describe(
        make_trace(
            "nine days",
            arrival_s,
            rng.zipf(1.4, requests).clip(1, 4000),
            output_tokens,
            duration_s=duration_s,
            service=(rng.random(requests) < 0.4).astype(int),
            model=rng.integers(0, 2, requests),
            model_names=("ChatGPT", "<b>GPT-4</b>"),
            session=rng.integers(0, 4000, requests),
            elapsed_s=rng.gamma(2.0, 3.0, requests),
        )
    )


@pytest.fixture
def trace_page(traffic: Any, tmp_path: Path) -> Path:
    """The page as a file."""
    return write_trace_page(traffic, tmp_path / "trace.html", "nine_days.parquet")


async def test_every_plot_is_drawn_without_an_error_and_without_a_request(
    trace_page: Path, traffic: Any, page: Any
) -> None:
    await page.size(1280, 1500)
    await page.open(trace_page)
    charts = [chart for section in build_sections(traffic) for chart in section.charts]
    keys = {chart.key for chart in charts}
    assert keys >= {"autocorrelation", "fano", "relation", "turns", "growth", "elapsed", "doublings"}
    for chart in charts:
        # Lines and points have a path each, bars and cells of a heat map their own kind of mark.
        drawn = await page.evaluate(
            f"document.querySelectorAll('[id=\"{chart.key}\"] :is(.js-line, .point, .point path, .hm image)').length"
        )
        assert drawn >= max(1, len(chart.layers)), f"{chart.key}: {drawn} marks for {len(chart.layers)} layers"
        width, plot = await page.evaluate(
            f"(() => {{ const card = document.querySelector('[id=\"{chart.key}\"]');"
            "return [card.clientWidth, card.querySelector('.main-svg').clientWidth]; })()"
        )
        assert plot == pytest.approx(width, abs=2), f"{chart.key} does not fill its card"
    assert await page.evaluate("document.querySelectorAll('#timeline-plot .scatterlayer .trace').length") >= 8
    assert await page.evaluate("document.querySelectorAll('b').length") == 0, "a model's name became markup"
    assert page.complaints() == []
    assert page.requests() == [trace_page.resolve().as_uri()]


async def test_a_click_on_a_name_hides_its_layer(trace_page: Path, page: Any) -> None:
    await page.open(trace_page)
    lines = "document.querySelectorAll('#fano .scatterlayer .trace').length"
    before = await page.evaluate(lines)
    await page.evaluate("document.querySelector('#fano button[data-trace]').click()")
    assert await page.evaluate(lines) == before - 1
    assert await page.evaluate("document.querySelector('#fano button').getAttribute('aria-pressed')") == "false"


@pytest.mark.parametrize("width", [360, 768, 1280])
async def test_nothing_sticks_out_of_the_window(width: int, trace_page: Path, page: Any) -> None:
    await page.size(width, 800, is_phone=width < 700)
    await page.open(trace_page)
    assert await page.evaluate("document.documentElement.scrollWidth") <= width
