"""The report in a real browser: it draws, says its verdict, asks the network for nothing, and logs no error."""

from pathlib import Path
from typing import Any

import pytest

from testbed.conclude import conclude_run
from testbed.results import REPORT

pytestmark = pytest.mark.browser


@pytest.fixture
def report(tmp_path: Path, story: Any, write_run: Any) -> Path:
    """The report of the story."""
    folder = write_run(tmp_path / "run", story)
    conclude_run(folder)
    return folder / REPORT


async def test_the_report_draws_without_a_console_error_and_without_a_network_request(report: Path, page: Any) -> None:
    await page.open(report)
    assert await page.evaluate("document.querySelectorAll('#timeline-plot .scatterlayer .trace').length") >= 15
    assert await page.evaluate("document.querySelectorAll('#timeline-plot .barlayer .point').length") > 0
    assert await page.evaluate("document.querySelectorAll('.row-head h3').length") == 10
    verdict = await page.evaluate("document.getElementById('verdict').innerText")
    assert "met their SLO" in verdict
    assert "The fleet grew from 2 to 6 replicas" in verdict
    assert await page.evaluate("document.querySelectorAll('b').length") == 0, "an error text became markup"
    assert page.complaints() == []
    assert page.requests() == [report.resolve().as_uri()]


async def test_pointing_reads_every_row_and_dragging_zooms_all_of_them(report: Path, page: Any) -> None:
    await page.size(1280, 1500)
    await page.open(report)
    left, top, width = await page.evaluate(
        "(() => { const r = document.getElementById('timeline-plot').getBoundingClientRect();"
        "return [r.left + 74, r.top, r.width - 90]; })()"
    )
    # 1:40 of 3:20: the middle of the plot.
    await page.point_at(left + width / 2, top + 120)
    assert await page.evaluate("document.getElementById('timeline-time').textContent") == "1:40"
    values = await page.evaluate(
        "Object.fromEntries([...document.querySelectorAll('button[data-trace]')].map("
        "(entry) => [entry.firstChild.nextSibling.textContent.trim(), entry.querySelector('.value').textContent]))"
    )
    assert (values["ready"], values["wanted"], values["starting"]) == ("5", "6", "0")
    assert all(values.values()), f"a row without a value: {values}"

    await page.drag((left + width / 4, top + 120), (left + width / 2, top + 120))
    start_s, end_s = await page.evaluate(
        "document.getElementById('timeline-plot').layout.xaxis.range.map("
        "(edge) => (Date.parse(edge.replace(' ', 'T') + 'Z') - Date.UTC(2001, 0, 1)) / 1000)"
    )
    assert (start_s, end_s) == (pytest.approx(50, abs=1), pytest.approx(100, abs=1))
    assert await page.evaluate("document.getElementById('timeline-reset').hidden") is False
    await page.evaluate("document.getElementById('timeline-reset').click()")
    assert await page.evaluate("document.getElementById('timeline-reset').hidden") is True
    assert page.complaints() == []


@pytest.mark.parametrize("width", [360, 768, 1280])
async def test_nothing_sticks_out_of_the_window(width: int, report: Path, page: Any) -> None:
    await page.size(width, 800, is_phone=width < 700)
    await page.open(report)
    assert await page.evaluate("document.documentElement.scrollWidth") <= width


async def test_a_tap_on_a_phone_reads_every_row(report: Path, page: Any) -> None:
    await page.size(390, 1500, is_phone=True)
    await page.open(report)
    left, top, width = await page.evaluate(
        "(() => { const r = document.getElementById('timeline-plot').getBoundingClientRect();"
        "return [r.left + 74, r.top, r.width - 90]; })()"
    )
    point = {"x": left + width / 2, "y": top + 120}
    await page.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[point])
    await page.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    assert await page.evaluate("document.querySelector('#timeline .value').textContent") != ""
    assert await page.evaluate("document.getElementById('timeline').classList.contains('is-reading')")
