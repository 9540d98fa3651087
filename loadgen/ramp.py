"""The requests of a trace at another rate: constant, or from one to another in a straight line."""

from dataclasses import dataclass, replace

import numpy as np

from loadgen.errors import InputError
from loadgen.trace import Trace


@dataclass(frozen=True, slots=True)
class Ramp:
    """Poisson arrivals whose rate goes from `from_per_s` to `to_per_s` in `duration_s`."""

    from_per_s: float
    to_per_s: float
    duration_s: float

    @property
    def expected_requests(self) -> float:
        """The mean number of arrivals."""
        return (self.from_per_s + self.to_per_s) / 2 * self.duration_s


def read_ramp(text: str) -> Ramp:
    """A ramp as the command line has it: 'FROM:TO:SECONDS'.

    Raises:
        InputError: it is none.
    """
    try:
        from_per_s, to_per_s, duration_s = (float(part) for part in text.split(":"))
    except ValueError:
        from_per_s = to_per_s = duration_s = -1.0
    ramp = Ramp(from_per_s, to_per_s, duration_s)
    is_finite = np.isfinite([from_per_s, to_per_s, duration_s]).all()
    if not is_finite or min(from_per_s, to_per_s) < 0 or duration_s <= 0 or ramp.expected_requests <= 0:
        raise InputError(f"--ramp: got '{text}', want FROM:TO:SECONDS, such as 1:20:600 (requests per second)")
    return ramp


def with_ramp(trace: Trace, ramp: Ramp, rng: np.random.Generator) -> Trace:
    """The trace's requests in their order at the ramp's arrivals; from the start again where they do not suffice.

    Raises:
        InputError: no arrival is drawn.
    """
    count = int(rng.poisson(ramp.expected_requests))
    if count == 0:
        raise InputError(f"trace '{trace.name}': the ramp has no arrival; raise its rates or its length")
    # The share of the arrivals before t is (a t + (b - a) t^2 / 2T) / (a + b)T/2, solved for t.
    share = np.sort(rng.random(count))
    first, change = ramp.from_per_s, ramp.to_per_s - ramp.from_per_s
    if change:
        root = np.sqrt(first**2 + share * change * (2 * first + change))
        arrival_s = (root - first) / change * ramp.duration_s
    else:
        arrival_s = share * ramp.duration_s
    rows = np.arange(count) % len(trace)
    rounds = np.arange(count) // len(trace)
    taken = trace.take(rows)
    return replace(
        taken,
        duration_s=ramp.duration_s,
        arrival_s=np.clip(arrival_s, 0.0, np.nextafter(ramp.duration_s, 0.0)),
        session=taken.session + rounds * (trace.session.max() + 1),
    )
