"""The ingress's answers on its fleet. The monitor writes them in its own process: here they are only waited for."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from serve_app.fleet_api import FLEET_PATH, LOG_PATH, FleetDescription, read_cursor
from serve_app.openai_api import ApiError, bad_request
from serve_app.traffic_monitor import find_monitor

MONITOR_TIMEOUT_S = 5.0
FLEET_PATHS = frozenset({FLEET_PATH, LOG_PATH})


class FleetAnswers:
    """Answers on one application's fleet, from the ingress's event loop."""

    def __init__(self, app_name: str, description: FleetDescription) -> None:
        self._app_name = app_name
        self._description = description
        self._monitor: Any | None = None

    async def answer(self, path: str, query: Mapping[str, str]) -> str:
        """The JSON document at one of `FLEET_PATHS`.

        Raises:
            ApiError: the query is wrong (400), or the monitor or Serve's controller does not answer in time (503).
        """
        if path == FLEET_PATH:
            return self._description.model_copy(update={"clock_s": time.time()}).model_dump_json()
        try:
            cursor = read_cursor(query)
        except ValueError as error:
            raise bad_request(f"{path}: {error}") from error
        try:
            async with asyncio.timeout(MONITOR_TIMEOUT_S):
                if self._monitor is None:
                    self._monitor = await asyncio.to_thread(find_monitor, self._app_name)
                if self._monitor is not None:
                    page: str = await self._monitor.fleet_page.remote(self._app_name, cursor)
                    return page
        except Exception as error:
            self._monitor = None
            raise _away(type(error).__name__) from error
        raise _away("it has not started")


def _away(why: str) -> ApiError:
    return ApiError(503, f"the traffic monitor does not answer now ({why})", "overloaded_error", None, 1)
