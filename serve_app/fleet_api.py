"""What the ingress tells a load generator of its fleet: two JSON documents, written and read by these models alone.

GET /burstscale/fleet gives a `FleetDescription`, which does not change while the application is served.
GET /burstscale/fleet/log?decisions=N&samples=M gives a `FleetPage` that begins with decision N and sample M; without
a cursor, with the last decision and with what is new.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter

from autoscaler.interface import ReplicaState
from loadgen.strict_config import StrictModel
from serve_app.config import (
    AppConfig,
    ControlSettings,
    FleetSettings,
    ForecasterSettings,
    PolicySettings,
    ServiceSettings,
    gpus_per_replica,
)
from serve_app.traffic import Collected

FLEET_PATH, LOG_PATH = "/burstscale/fleet", "/burstscale/fleet/log"
# By this key a document says that it is one of ours, and in which form.
FORM_KEY = "burstscale_fleet"
Cursor = tuple[int, int]


class FleetDescription(StrictModel):
    """The application behind an ingress, without what may be secret in it (an engine's arguments and environment).

    Attributes:
        clock_s: the ingress's wall clock when it answered.
        gpus_per_replica: that each replica holds, also one that only stands for them.
    """

    burstscale_fleet: Literal[1] = 1
    clock_s: float
    model_id: str
    gpus_per_replica: float
    fleet: FleetSettings
    services: dict[str, ServiceSettings]
    control: ControlSettings
    policy: PolicySettings
    forecaster: ForecasterSettings | None

    def application(self) -> dict[str, Any]:
        """The application's configuration in plain values, as a results folder keeps it."""
        own = {"burstscale_fleet", "clock_s", "gpus_per_replica"}
        return self.model_dump(mode="json", exclude=own, exclude_none=True)


@dataclass(frozen=True, slots=True)
class FleetPage:
    """What happened since a cursor, and the engine replicas that exist now; instants are the fleet's epoch seconds."""

    log: Collected
    replicas: Mapping[str, ReplicaState]


_PAGES = TypeAdapter(FleetPage)


def describe_fleet(config: AppConfig) -> FleetDescription:
    """The description of a configured application, at instant 0.

    Raises:
        InputError: its hardware profile is needed for the GPUs that a replica stands for, and there is none.
    """
    return FleetDescription(
        clock_s=0.0,
        model_id=config.model_id,
        gpus_per_replica=gpus_per_replica(config),
        fleet=config.fleet,
        services=config.services,
        control=config.control,
        policy=config.policy,
        forecaster=config.forecaster,
    )


def write_page(page: FleetPage) -> str:
    """The page as JSON."""
    return _PAGES.dump_json(page).decode()


def read_page(text: str) -> FleetPage:
    """The page that was written as `text`.

    Raises:
        ValueError: it is none.
    """
    return _PAGES.validate_json(text, strict=True)


def read_description(text: str) -> FleetDescription:
    """The description that was written as `text`.

    Raises:
        ValueError: it is none, or one of another version.
    """
    return FleetDescription.model_validate_json(text)


def read_cursor(query: Mapping[str, str]) -> Cursor | None:
    """The cursor in a query; None = the query has none.

    Raises:
        ValueError: it has another key, only half a cursor, or what is no count.
    """
    if not query:
        return None
    if set(query) != {"decisions", "samples"}:
        raise ValueError(f"the query has {', '.join(query)}; want decisions and samples, or nothing")
    decisions, samples = query["decisions"], query["samples"]
    if not (decisions.isdecimal() and samples.isdecimal()):
        raise ValueError(f"decisions and samples are {decisions!r} and {samples!r}; want two counts >= 0")
    return int(decisions), int(samples)
