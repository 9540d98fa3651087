"""A page of the product in a real browser: headless Chromium, driven over the Chrome DevTools Protocol."""

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
ALL_DRAWN = (
    "document.readyState === 'complete' && document.getElementById('timeline')?.dataset.drawn === 'yes'"
    " && [...document.querySelectorAll('.chart')].every((chart) => chart.dataset.drawn === 'yes')"
)


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
        """Load a file, and wait until its figures are drawn."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=path.resolve().as_uri())
        for _ in range(int(PAGE_S / 0.1)):
            if await self.evaluate(ALL_DRAWN):
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"{path}: not all figures were drawn within {PAGE_S:g} s; events: {self.complaints()}")

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
async def page(tmp_path: Path) -> AsyncIterator[Page]:
    """A tab of a browser of its own."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (`make test-browser` installs it)")
    async with chromium_page(tmp_path / "profile") as opened:
        yield opened
