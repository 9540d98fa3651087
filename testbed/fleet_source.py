"""The fleet behind a server that somebody else runs, where it is one of ours: found, and asked over HTTP."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from loadgen.clock_offset import ClockOffset, measure_clock_offset
from loadgen.errors import InputError
from loadgen.target import Target
from loadgen.web_page import fetch_page
from serve_app.fleet_api import (
    FLEET_PATH,
    FORM_KEY,
    LOG_PATH,
    Cursor,
    FleetDescription,
    FleetPage,
    read_description,
    read_page,
)

# The ingress itself waits 5 s for its fleet before it answers that it knows nothing.
_TIMEOUT_S = 8.0


@dataclass(frozen=True, slots=True)
class HttpFleet:
    """A fleet of ours at a server's root URL.

    Attributes:
        headers: that each question carries, with the API key.
        clock: its clock less ours.
    """

    root: str
    headers: Mapping[str, str]
    description: FleetDescription
    clock: ClockOffset

    def ask(self, cursor: Cursor | None) -> FleetPage:
        """The replicas that exist now, and a page of what happened since `cursor`; None = from the last decision on.

        Raises:
            OSError: nobody answers, or with an error.
            ValueError: the answer is no page of a fleet.
        """
        query = "" if cursor is None else f"?decisions={cursor[0]}&samples={cursor[1]}"
        return read_page(fetch_page(f"{self.root}{LOG_PATH}{query}", timeout_s=_TIMEOUT_S, headers=self.headers))


def find_fleet(target: Target) -> HttpFleet | None:
    """The fleet behind a server; None where it is no fleet of ours.

    Raises:
        InputError: it is one of ours that this version cannot read, or that answers no more.
    """
    url = f"{target.root}{FLEET_PATH}"

    def describe() -> str:
        return fetch_page(url, timeout_s=_TIMEOUT_S, headers=target.headers)

    try:
        document = json.loads(describe())
    except (OSError, ValueError):
        return None
    if not isinstance(document, dict) or FORM_KEY not in document:
        return None
    try:
        description = read_description(json.dumps(document))
        clock = measure_clock_offset(lambda: read_description(describe()).clock_s)
    except OSError as error:
        raise InputError(f"{url}: answered once and then no more ({error}); is the server running?") from error
    except ValueError as error:
        raise InputError(
            f"{url}: tells of its fleet in another form than is read here; use the burstscale that serves it"
        ) from error
    return HttpFleet(target.root, target.headers, description, clock)
