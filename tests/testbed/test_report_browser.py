"""The report in a real browser: it draws, says its verdict, asks the network for nothing, and logs no error."""

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from testbed.conclude import conclude_run
from testbed.results import REPORT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
)
START_S, PAGE_S = 30.0, 60.0

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (`make test-browser` installs it)"),
]


class Page:
    """One tab, driven over the Chrome DevTools Protocol.

    Source: https://chromedevtools.github.io/devtools-protocol (domains Page, Runtime, Log, Network, Emulation, Input).
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.events: list[dict[str, Any]] = []
        self._socket = socket
        self._last_call = 0

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; events that come meanwhile are kept."""
        self._last_call += 1
        await self._socket.send_json({"id": self._last_call, "method": method, "params": params})
        while True:
            message = await self._socket.receive_json(timeout=PAGE_S)
            if message.get("id") == self._last_call:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self.events.append(message)

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited where it is a promise."""
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def open(self, path: Path) -> None:
        """Load a file, and wait until its figure is drawn."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=path.resolve().as_uri())
        for _ in range(int(PAGE_S / 0.1)):
            if await self.evaluate("document.getElementById('timeline')?.dataset.drawn === 'yes'"):
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"{path}: the figure was not drawn within {PAGE_S:g} s; events: {self.complaints()}")

    async def size(self, width: int, height: int, *, is_phone: bool = False) -> None:
        """Give the page a window of so many CSS pixels; a phone's is touched."""
        await self.call("Emulation.setTouchEmulationEnabled", enabled=is_phone)
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=is_phone
        )

    async def point_at(self, x: float, y: float) -> None:
        """Move the mouse."""
        await self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    async def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Press, move, release."""
        await self.call("Input.dispatchMouseEvent", type="mousePressed", x=start[0], y=start[1], button="left")
        for share in (0.3, 0.7, 1.0):
            x, y = (a + share * (b - a) for a, b in zip(start, end, strict=True))
            await self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y, button="left", buttons=1)
        await self.call("Input.dispatchMouseEvent", type="mouseReleased", x=end[0], y=end[1], button="left")

    def complaints(self) -> list[dict[str, Any]]:
        """Uncaught exceptions, console.error and console.warn, and what the browser logs as an error or warning."""
        bad = {"error", "warning", "assert"}
        return [
            event["params"]
            for event in self.events
            if event["method"] == "Runtime.exceptionThrown"
            or (event["method"] == "Runtime.consoleAPICalled" and event["params"]["type"] in bad)
            or (event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] in bad)
        ]

    def requests(self) -> list[str]:
        """Every address that was asked for, but data: and blob:, which are in the page itself."""
        urls = [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]
        return [url for url in urls if not url.startswith(("data:", "blob:"))]


@asynccontextmanager
async def chromium_page(profile: Path) -> AsyncIterator[Page]:
    """A tab of a fresh headless Chromium; the browser with all its processes is gone afterwards."""
    assert CHROMIUM is not None
    profile.mkdir()
    with (profile / "log").open("wb") as log:
        browser = subprocess.Popen(
            [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        port = await _debugging_port(profile, browser)
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                tab = next(target for target in await answer.json() if target["type"] == "page")
            async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                yield Page(socket)
    finally:
        os.killpg(browser.pid, signal.SIGKILL)
        browser.wait()


async def _debugging_port(profile: Path, browser: subprocess.Popen[bytes]) -> int:
    """The port that the browser chose; it writes it to its profile once it listens."""
    for _ in range(int(START_S / 0.1)):
        if (port_file := profile / "DevToolsActivePort").is_file() and (lines := port_file.read_text().split()):
            return int(lines[0])
        if browser.poll() is not None:
            break
        await asyncio.sleep(0.1)
    raise AssertionError(
        f"Chromium did not start (exit code {browser.poll()}): {(profile / 'log').read_text()[-2000:]}"
    )


@pytest.fixture
def report(tmp_path: Path, story: Any, write_run: Any) -> Path:
    """The report of the story."""
    folder = write_run(tmp_path / "run", story)
    conclude_run(folder)
    return folder / REPORT


async def test_the_report_draws_without_a_console_error_and_without_a_network_request(
    report: Path, tmp_path: Path
) -> None:
    async with chromium_page(tmp_path / "profile") as page:
        await page.open(report)
        assert await page.evaluate("document.querySelectorAll('#timeline-plot .scatterlayer .trace').length") >= 15
        assert await page.evaluate("document.querySelectorAll('#timeline-plot .barlayer .point').length") > 0
        assert await page.evaluate("document.querySelectorAll('.row-head h3').length") == 7
        verdict = await page.evaluate("document.getElementById('verdict').innerText")
        assert "met their SLO" in verdict
        assert "the fleet grew from 2 to 6 replicas" in verdict
        assert await page.evaluate("document.querySelectorAll('b').length") == 0, "an error text became markup"
        assert page.complaints() == []
        assert page.requests() == [report.resolve().as_uri()]


async def test_pointing_reads_every_row_and_dragging_zooms_all_of_them(report: Path, tmp_path: Path) -> None:
    async with chromium_page(tmp_path / "profile") as page:
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
async def test_nothing_sticks_out_of_the_window(width: int, report: Path, tmp_path: Path) -> None:
    async with chromium_page(tmp_path / "profile") as page:
        await page.size(width, 800, is_phone=width < 700)
        await page.open(report)
        assert await page.evaluate("document.documentElement.scrollWidth") <= width


async def test_a_tap_on_a_phone_reads_every_row(report: Path, tmp_path: Path) -> None:
    async with chromium_page(tmp_path / "profile") as page:
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
