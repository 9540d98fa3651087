"""How a load generator sends: the same keys in an experiment's `replay` section and as options of `burstscale load`."""

from dataclasses import replace
from typing import Any, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from loadgen.errors import InputError
from loadgen.pacing import BY_ARRIVAL, ByTurn, ByUser, Pacing
from loadgen.plan import header_lines
from loadgen.strict_config import NonNegative, Positive, StrictModel
from loadgen.target import Target
from loadgen.trace import Trace

# The load generator writes these itself: another value would make a request whose answer it cannot read.
_OWN_BODY_KEYS = frozenset({"model", "messages", "prompt", "stream", "stream_options"})
_OWN_HEADERS = frozenset(
    {"host", "content-type", "content-length", "transfer-encoding", "connection", "accept", "accept-encoding"}
    | {"x-request-id", "x-service"}
)


class ReplaySettings(StrictModel):
    """The load generator: when requests are sent, what they hold, and which of them count.

    Attributes:
        actors: Ray actors that share the trace, each with an equal part.
        spread: they are dealt out to the machines of the Ray cluster in turn; else all run on this one.
        sessions: a turn of a session waits for the end of the one before, and its think time. Else, and without
            `users`, each request is sent at its arrival (open loop).
        users: a closed loop of so many, who each send the next request when their last has ended.
        think_s: in a closed loop, from the end of a user's request to the next one.
        duration_s: of a closed loop; None = as long as the traffic lasts.
        warm_up_s: requests that are scheduled before count for no figure.
        warm_up_kv: the warm-up lasts until the server's KV caches are in use by 30 %, or 1000 s.
        extra_body: added to each request's body; null leaves a key out that would be there.
        headers: added to each request.
        temperature: of each request; None = the server's own.
        free_lengths: the model ends its answers, up to the recorded lengths; else it must go on to these.
    """

    actors: PositiveInt = 1
    spread: bool = False
    sessions: bool = False
    users: PositiveInt | None = None
    think_s: NonNegative = 0.0
    duration_s: Positive | None = None
    warm_up_s: NonNegative = 0.0
    warm_up_kv: bool = False
    extra_body: dict[str, Any] = Field(default_factory=dict)
    headers: dict[str, str] = Field(default_factory=dict)
    temperature: NonNegative | None = None
    free_lengths: bool = False

    @field_validator("extra_body")
    @classmethod
    def _check_body(cls, extra_body: dict[str, Any]) -> dict[str, Any]:
        own = sorted(_OWN_BODY_KEYS & extra_body.keys())
        if own:
            raise ValueError(f"the load generator sets '{own[0]}' itself; leave it out")
        return extra_body

    @field_validator("headers")
    @classmethod
    def _check_headers(cls, headers: dict[str, str]) -> dict[str, str]:
        lower = {name.lower(): value for name, value in headers.items()}
        own = sorted(_OWN_HEADERS & lower.keys())
        if own:
            raise ValueError(f"the load generator sets '{own[0]}' itself; leave it out")
        try:
            header_lines(lower)
        except InputError as error:
            raise ValueError(str(error)) from error
        return lower

    @model_validator(mode="after")
    def _check_modes(self) -> Self:
        if self.sessions and self.users is not None:
            raise ValueError("sessions and users are two ways to send; choose one")
        if self.users is None and (self.think_s or self.duration_s is not None):
            raise ValueError("think_s and duration_s are of a closed loop; give users too")
        if self.warm_up_s and self.warm_up_kv:
            raise ValueError("warm_up_s and warm_up_kv are two ends of a warm-up; choose one")
        return self

    def pacing(self, speed: float, traffic_s: float) -> Pacing:
        """When requests are due, in traffic that was sped up so much and lasts so long."""
        if self.sessions:
            return ByTurn(speed)
        if self.users is not None:
            return ByUser(self.users, self.think_s, self.run_s(traffic_s))
        return BY_ARRIVAL

    def run_s(self, traffic_s: float) -> float:
        """How long requests are sent."""
        return traffic_s if self.duration_s is None else self.duration_s

    def body_fields(self) -> dict[str, Any]:
        """What is added to each body; None leaves a key out."""
        return ({} if self.temperature is None else {"temperature": self.temperature}) | self.extra_body

    def planned(self, trace: Trace) -> Trace:
        """The trace as it is sent.

        Raises:
            InputError: all of it is in the warm-up.
        """
        run_s = self.run_s(trace.duration_s)
        if self.warm_up_s >= run_s:
            raise InputError(
                f"warm_up_s is {self.warm_up_s:g}, and requests are sent for {run_s:g} s, so that none would count; "
                "want less"
            )
        if not self.free_lengths:
            return trace
        return replace(trace, output_is_limit=trace.output_tokens > 0)

    def target(self, url: str, model: str, api_key: str | None) -> Target:
        """The server, with the headers that it is to get."""
        return Target(url, model, api_key, tuple(self.headers.items()))
