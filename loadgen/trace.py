"""A trace: the requests that a service received, as columns."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Service(IntEnum):
    """The two kinds of traffic that BurstGPT tells apart; the number is what `Trace.service` holds."""

    CONVERSATION = 0
    API = 1

    @property
    def label(self) -> str:
        """The name in files, headers and plots: 'conversation' or 'api'."""
        return self.name.lower()


SERVICE_LABELS: tuple[str, ...] = tuple(service.label for service in Service)


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Requests in order of arrival, one array per attribute, all of length n.

    Attributes:
        name: where the trace comes from, for titles and messages.
        duration_s: length of the recording, the quiet tail included; every arrival is in [0, duration_s).
        arrival_s: f64[n], non-decreasing, counted from the start of the recording.
        prompt_tokens: i32[n], >= 0.
        output_tokens: i32[n], >= 0; 0 = the request failed in the recorded system.
        service: i8[n], values of `Service`.
        model: i16[n], index into `model_names`.
        session: i64[n], requests of one conversation share a number; unique per request where unknown.
        model_names: one name per value of `model`.
    """

    name: str
    duration_s: float
    arrival_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int32]
    output_tokens: NDArray[np.int32]
    service: NDArray[np.int8]
    model: NDArray[np.int16]
    session: NDArray[np.int64]
    model_names: tuple[str, ...]

    def __len__(self) -> int:
        """The number of requests."""
        return len(self.arrival_s)
