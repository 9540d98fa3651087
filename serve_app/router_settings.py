"""The `router` of a Serve config file: queue, order and routing, simulated and live."""

from typing import Annotated

from pydantic import Field, NonNegativeFloat, PositiveInt

from autoscaler.simulator.router_state import QueueOrder, RouterConfig, Routing
from loadgen.errors import InputError
from loadgen.strict_config import StrictModel

_ROUTER = RouterConfig()
LIVE_ROUTINGS = (Routing.LEAST_OUTSTANDING, Routing.ROUND_ROBIN, Routing.POWER_OF_TWO)
"""Those that need no more than the router knows: the others look into engines or at sessions."""


class RouterSettings(StrictModel):
    """The router: its queue, which request goes first, and which replica gets it (`RouterConfig` says more).

    Attributes:
        max_queued_requests: a request beyond these is answered 503 with `Retry-After`.
        routing, queue_order, kv_watermark_fraction, overlap_weight: as in the simulator's `RouterConfig`; live there
            are those of `LIVE_ROUTINGS` and no watermark.
    """

    max_queued_requests: PositiveInt = 1000
    retry_after_s: PositiveInt = 5
    routing: Routing = _ROUTER.routing
    queue_order: QueueOrder = _ROUTER.queue_order
    kv_watermark_fraction: Annotated[float, Field(ge=0, le=1)] | None = _ROUTER.kv_watermark_fraction
    overlap_weight: NonNegativeFloat = _ROUTER.overlap_weight

    @property
    def choices(self) -> RouterConfig:
        """The same as the simulator takes it."""
        return RouterConfig(
            routing=self.routing,
            queue_order=self.queue_order,
            kv_watermark_fraction=self.kv_watermark_fraction,
            overlap_weight=self.overlap_weight,
        )


def check_live_router(router: RouterSettings) -> None:
    """Refuse what only a simulated router can do.

    Raises:
        InputError: the routing or the watermark needs what the live router does not know.
    """
    if router.routing not in LIVE_ROUTINGS:
        raise InputError(
            f"router.routing is '{router.routing}', which is simulated only; live choose {', '.join(LIVE_ROUTINGS)}"
        )
    if router.kv_watermark_fraction is not None:
        raise InputError(
            f"router.kv_watermark_fraction is {router.kv_watermark_fraction:g}, which is simulated only; "
            f"leave it out and limit fleet.max_ongoing_requests instead"
        )
