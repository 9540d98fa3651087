"""How clients time out and try again, simulated and live: an experiment's `client`, options of `burstscale load`."""

import math
from typing import Annotated

from pydantic import Field, PositiveInt

from loadgen.client_config import SEND_ONCE, ClientConfig
from loadgen.strict_config import NonNegative, Positive, StrictModel

_CLIENT = ClientConfig()


class ClientSettings(StrictModel):
    """What clients do with a request that is not answered; attributes as in `ClientConfig`.

    Attributes:
        timeout_s: None = an attempt lasts up to the deadline.
    """

    timeout_s: Positive | None = None
    max_attempts: Annotated[PositiveInt, Field(le=100)] = _CLIENT.max_attempts
    backoff_s: NonNegative = _CLIENT.backoff_s
    max_backoff_s: NonNegative = _CLIENT.max_backoff_s
    jitter_fraction: Annotated[float, Field(ge=0, le=1)] = _CLIENT.jitter_fraction
    honours_retry_after: bool = _CLIENT.honours_retry_after

    @property
    def client_config(self) -> ClientConfig:
        """The same as simulator and load generator take it."""
        given = self.model_dump()
        return ClientConfig(**{**given, "timeout_s": math.inf if self.timeout_s is None else self.timeout_s})


def client_config_of(client: ClientSettings | None) -> ClientConfig:
    """What clients do that are or are not described."""
    return SEND_ONCE if client is None else client.client_config
