"""What this client can honestly send: it is measured against a null server before it measures anybody else."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadgen.nodes import choose_nodes, do_on_each
from loadgen.null_run import run_against_null_server

LAG_LIMIT_S = 0.010
LOWEST_PER_S = 100.0
_HIGHEST_PER_S = 3000.0
_FACTOR = 1.5
# Answers take 0.24 s: in the second half of a step as many are on their way as the rate asks for.
_STEP_S = 0.5
# A peak that lasts shorter than this is no matter for a client: it is sent a little later.
_PEAK_S = 1.0


@dataclass(frozen=True, slots=True)
class HonestRate:
    """How fast this client can send before it is late itself.

    Attributes:
        per_s: the highest rate tried at which, and below which, the lag p99 stayed within the limit; 0 = none.
        is_highest_tried: the client may be able to do more.
        lag_limit_s: the limit.
        actors: the processes that shared the work.
        machines: that they ran on.
        lag_p99_s: by rate tried, as the server saw it; infinite where requests did not arrive.
    """

    per_s: float
    is_highest_tried: bool
    lag_limit_s: float
    actors: int
    lag_p99_s: dict[float, float]
    machines: int = 1

    def as_json(self) -> dict[str, Any]:
        """The figures by name; a lag that is infinite is null."""
        lags_s = {f"{rate:g}": lag_s if np.isfinite(lag_s) else None for rate, lag_s in self.lag_p99_s.items()}
        return {**asdict(self), "lag_p99_s": lags_s}

    def sentence(self) -> str:
        """The same for a person."""
        processes = "1 process" if self.actors == 1 else f"{self.actors} processes"
        if self.machines > 1:
            processes += f" on {self.machines} machines"
        limit = f"lag p99 within {1e3 * self.lag_limit_s:g} ms, {processes}, 20 chunks a request"
        if not self.per_s:
            return f"this client is late even at {min(self.lag_p99_s):g} requests/s ({limit})"
        more = "at least " if self.is_highest_tried else ""
        return f"this client sends {more}{self.per_s:g} requests/s in time ({limit})"

    def warning(self, peak_per_s: float) -> str | None:
        """What to say of a plan with such a peak; None = nothing."""
        if peak_per_s <= self.per_s:
            return None
        advice = "latencies may be its own, not the server's; take more actors or a quieter machine"
        if not self.per_s:
            return f"{self.sentence()}: {advice}"
        return f"the plan's peak is {peak_per_s:.0f} requests/s, and {self.sentence()}: {advice}"


def measure_honest_rate(actors: int, needed_per_s: float, lowest_per_s: float = LOWEST_PER_S) -> HonestRate:
    """Send ever faster to a null server until twice the rate that is needed; takes a second or a few.

    Rates grow by half from step to step; within a step arrivals are as random as in a Poisson process.
    """
    highest_per_s = min(_HIGHEST_PER_S, max(2 * needed_per_s, 4 * lowest_per_s))
    steps = int(np.ceil(np.log(highest_per_s / lowest_per_s) / np.log(_FACTOR))) + 1
    rates_per_s = [float(round(lowest_per_s * _FACTOR**step)) for step in range(steps)]
    planned_s = _ramp(rates_per_s)
    lag_s = run_against_null_server(planned_s.tolist(), actors).lag_s
    return judge_ramp(rates_per_s, planned_s, lag_s, actors)


def measure_spread_rate(actors: int, needed_per_s: float) -> HonestRate:
    """The same for a replay that is spread over a cluster: each machine measures itself, all at once.

    Needs an initialised Ray. Each machine sends to a null server of its own: the network is not in it.

    Raises:
        InputError: a machine cannot.
    """
    actors_there = Counter(choose_nodes(actors, spreads=True))
    jobs = {
        node: (count, needed_per_s * count / actors, LOWEST_PER_S * count / actors)
        for node, count in actors_there.items()
    }
    return rate_of_machines(do_on_each(measure_honest_rate, jobs))


def judge_ramp(
    rates_per_s: list[float], planned_s: NDArray[np.float64], lag_s: NDArray[np.float64], actors: int
) -> HonestRate:
    """The honest rate, from the lag (f64[n]) of each request of a ramp; the second half of each step counts."""
    lag_p99_s: dict[float, float] = {}
    honest_per_s, is_late = 0.0, False
    for step, rate_per_s in enumerate(rates_per_s):
        counts = (planned_s >= (step + 0.5) * _STEP_S) & (planned_s < (step + 1) * _STEP_S)
        # An interpolated quantile of a finite and an infinite value would be NaN.
        lag_p99_s[rate_per_s] = float(np.quantile(lag_s[counts], 0.99, method="higher")) if counts.any() else 0.0
        is_late = is_late or lag_p99_s[rate_per_s] > LAG_LIMIT_S
        honest_per_s = honest_per_s if is_late else rate_per_s
    return HonestRate(honest_per_s, not is_late, LAG_LIMIT_S, actors, lag_p99_s)


def rate_of_machines(rates: Sequence[HonestRate]) -> HonestRate:
    """The rate of machines that share a plan by their actors, each of which has measured itself: the slowest bounds it.

    Figures are scaled to the whole plan: a machine with 2 of 6 actors that sends 100 requests/s in time does for 300/s.
    """
    actors = sum(rate.actors for rate in rates)
    scaled = []
    for rate in rates:
        factor = actors / rate.actors
        lag_p99_s = {factor * rate_per_s: lag_s for rate_per_s, lag_s in rate.lag_p99_s.items()}
        scaled.append(replace(rate, per_s=factor * rate.per_s, lag_p99_s=lag_p99_s))
    slowest = min(scaled, key=lambda rate: (rate.per_s, rate.is_highest_tried))
    return replace(slowest, actors=actors, machines=len(rates))


def peak_per_s(arrival_s: NDArray[np.float64]) -> float:
    """The most requests within any second of a plan (f64[n], in order)."""
    within = np.searchsorted(arrival_s, arrival_s + _PEAK_S, side="left") - np.arange(len(arrival_s))
    return float(within.max(initial=0)) / _PEAK_S


def _ramp(rates_per_s: list[float]) -> NDArray[np.float64]:
    """Arrivals of one step for each rate."""
    rng = np.random.default_rng(0)
    steps = []
    for step, rate_per_s in enumerate(rates_per_s):
        instants_s = rng.uniform(step * _STEP_S, (step + 1) * _STEP_S, round(rate_per_s * _STEP_S))
        steps.append(np.sort(instants_s))
    return np.concatenate(steps)
