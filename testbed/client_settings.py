"""The experiment file's `client`: how simulated clients time out and try again."""

import math
from typing import Annotated

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from autoscaler.simulator.client_state import ClientConfig
from loadgen.errors import InputError
from loadgen.strict_config import StrictModel

_CLIENT = ClientConfig()


class ClientSettings(StrictModel):
    """What clients do with a request that is not answered; attributes as in the simulator's `ClientConfig`.

    Attributes:
        timeout_s: None = an attempt lasts up to the deadline.
    """

    timeout_s: PositiveFloat | None = None
    max_attempts: PositiveInt = _CLIENT.max_attempts
    backoff_s: NonNegativeFloat = _CLIENT.backoff_s
    max_backoff_s: NonNegativeFloat = _CLIENT.max_backoff_s
    jitter_fraction: Annotated[float, Field(ge=0, le=1)] = _CLIENT.jitter_fraction
    honours_retry_after: bool = _CLIENT.honours_retry_after

    @property
    def client_config(self) -> ClientConfig:
        """The same as the simulator takes it."""
        given = self.model_dump()
        return ClientConfig(**{**given, "timeout_s": math.inf if self.timeout_s is None else self.timeout_s})


def check_live_client(client: ClientSettings | None) -> None:
    """Refuse what only simulated clients do.

    Raises:
        InputError: there are settings for clients.
    """
    if client is not None:
        raise InputError("client: a live run sends each request once; leave `client` out, or use `burstscale simulate`")
