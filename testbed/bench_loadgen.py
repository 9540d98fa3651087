"""How punctual and how costly the load generator is here, beside the least that a client can do and other tools.

Ours is the whole replay: Ray actors that plan, send, read and record. What it costs is what its actors' processes take.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadgen.null_run import NullRun, run_against_null_server
from testbed.bench_peers import installed_peers, run_peer
from testbed.bench_target import Target, verdicts
from testbed.null_replay import replay_to_null_server

OURS, FLOOR = "burstscale", "bare socket"
_FLOOR_CLIENT = "testbed.bare_client"
DEFAULT_RATES_PER_S = (50, 200, 500)
DEFAULT_DURATION_S = 20.0
# One process is enough up to here; above, two share the plan.
_ONE_ACTOR_PER_S = 300

TARGETS: dict[str, Target] = {
    "achieved_fraction_at_200": Target("requests at 200/s that the server saw in time", 0.995, "", at_least=True),
    "lag_p99_ms_at_200": Target("lag p99 at 200/s, one actor", 4.0, "ms"),
    "lag_p99_ms_at_500": Target("lag p99 at 500/s, two actors", 15.0, "ms"),
    "cv_departure_at_500": Target("CV of arrivals at 500/s against the plan's", 0.05, ""),
    "cpu_ms_per_request": Target("processor time per streamed request, all rates", 0.7, "ms"),
}


@dataclass(frozen=True, slots=True)
class RateFigures:
    """One client at one rate, as the server saw it.

    Attributes:
        client: 'burstscale', 'bare socket' or a peer.
        planned_per_s, achieved_per_s: requests per second between the first and the last.
        lag_p50_ms, lag_p99_ms: arrival at the server less the instant of the plan; a peer's counted from its least
            late requests. None = some never arrived.
        planned_cv, arrived_cv: coefficient of variation of the gaps between requests.
        cpu_ms_per_request: processor time of the client; of a peer what it took more than at the lowest rate, per
            request more (None at that rate).
        ok: requests whose answers it took for whole; None = not known.
    """

    client: str
    rate_per_s: float
    actors: int
    requests: int
    planned_per_s: float
    achieved_per_s: float
    lag_p50_ms: float | None
    lag_p99_ms: float | None
    planned_cv: float
    arrived_cv: float
    cpu_ms_per_request: float | None
    ok: int | None


@dataclass(frozen=True, slots=True)
class LoadgenBenchmark:
    """Figures of every client at every rate."""

    figures: tuple[RateFigures, ...]

    def of(self, client: str, rate_per_s: float) -> RateFigures:
        """The figures of one client at one rate."""
        return next(row for row in self.figures if (row.client, row.rate_per_s) == (client, rate_per_s))

    @property
    def has_targets(self) -> bool:
        """Whether the rates were those that the targets are for."""
        return {200, 500} <= {row.rate_per_s for row in self.figures}

    @property
    def achieved_fraction_at_200(self) -> float:
        """Achieved by planned rate at 200/s."""
        figures = self.of(OURS, 200)
        return figures.achieved_per_s / figures.planned_per_s

    @property
    def lag_p99_ms_at_200(self) -> float:
        """Ours; infinite where a request never arrived."""
        return _or_infinite(self.of(OURS, 200).lag_p99_ms)

    @property
    def lag_p99_ms_at_500(self) -> float:
        """Ours; infinite where a request never arrived."""
        return _or_infinite(self.of(OURS, 500).lag_p99_ms)

    @property
    def cv_departure_at_500(self) -> float:
        """By how much the CV of the arrivals departs from the plan's, relative to it."""
        figures = self.of(OURS, 500)
        return abs(figures.arrived_cv / figures.planned_cv - 1)

    @property
    def cpu_ms_per_request(self) -> float:
        """Ours, over all rates."""
        return self._cpu_ms(OURS)

    def as_json(self) -> dict[str, Any]:
        """The figures by name."""
        summary = {key: getattr(self, key) for key in TARGETS} if self.has_targets else {}
        return {
            **summary,
            "cpu_ratio_to_bare_socket": self.cpu_ms_per_request / self._cpu_ms(FLOOR),
            "ratios_to_peers": self.ratios_to_peers(),
            "rates": [asdict(row) for row in self.figures],
        }

    def ratios_to_peers(self) -> dict[str, dict[str, float]]:
        """For each peer, at the highest rate: its figure by ours (above 1: ours is better)."""
        highest_per_s = max(row.rate_per_s for row in self.figures)
        ours, ratios = self.of(OURS, highest_per_s), {}
        for row in self.figures:
            if row.rate_per_s == highest_per_s and row.client not in (OURS, FLOOR):
                pairs = {
                    "lag_p99": (row.lag_p99_ms, ours.lag_p99_ms),
                    "cpu_per_request": (row.cpu_ms_per_request, ours.cpu_ms_per_request),
                }
                ratios[row.client] = {name: theirs / our for name, (theirs, our) in pairs.items() if theirs and our}
        return ratios

    def conclusion(self) -> str:
        """What the figures mean, in a sentence or two."""
        ratio = self.cpu_ms_per_request / self._cpu_ms(FLOOR)
        text = f"A request costs {self.cpu_ms_per_request:.2f} ms, {ratio:.1f} times the least that a client can do."
        for peer, ratios in self.ratios_to_peers().items():
            shown = " and ".join(f"{value:.1f} times our {name.replace('_', ' ')}" for name, value in ratios.items())
            text += f" {peer} takes {shown}."
        if not self.has_targets:
            return f"{text} The targets are for 200 and 500 requests/s."
        missed = [verdict.what for verdict in verdicts(TARGETS, self) if not verdict.is_met]
        return f"{text} {'Missed: ' + ', '.join(missed) + '.' if missed else 'Every target is met.'}"

    def _cpu_ms(self, client: str) -> float:
        rows = [row for row in self.figures if row.client == client]
        total_ms = sum(_or_infinite(row.cpu_ms_per_request) * row.requests for row in rows)
        return total_ms / sum(row.requests for row in rows)


def bench_loadgen(
    rates_per_s: Sequence[float], duration_s: float, on_stage: Callable[[str], None], *, with_peers: bool = True
) -> LoadgenBenchmark:
    """Send a Poisson plan at each rate by each client, one after the other, to a null server of its own."""
    rows: list[RateFigures] = []
    peers = installed_peers() if with_peers else []
    first_of_peer: dict[str, tuple[float, int]] = {}
    for rate_per_s in sorted(rates_per_s):
        planned_s = _poisson(rate_per_s, duration_s)
        actors = 1 if rate_per_s <= _ONE_ACTOR_PER_S else 2
        for client in (FLOOR, OURS):
            on_stage(f"{rate_per_s:g} requests/s by {client}")
            run = _run(client, planned_s.tolist(), actors)
            cpu_ms = 1e3 * run.client_cpu_s / len(planned_s)
            rows.append(_figures(client, rate_per_s, actors, planned_s, run.arrived_s, cpu_ms, run.ok))
        for peer in peers:
            on_stage(f"{rate_per_s:g} requests/s by {peer}")
            try:
                peer_run = run_peer(peer, planned_s.tolist())
            except RuntimeError as error:
                on_stage(f"{peer} could not be run: {error}")
                continue
            first_cpu_s, first_count = first_of_peer.setdefault(peer, (peer_run.cpu_s, len(planned_s)))
            more = len(planned_s) - first_count
            peer_ms = 1e3 * (peer_run.cpu_s - first_cpu_s) / more if more > 0 else None
            rows.append(_figures(peer, rate_per_s, 1, planned_s, peer_run.arrived_s, peer_ms, None))
    return LoadgenBenchmark(tuple(rows))


def _run(client: str, planned_s: list[float], actors: int) -> NullRun:
    if client == OURS:
        return replay_to_null_server(planned_s, actors)
    return run_against_null_server(planned_s, actors, _FLOOR_CLIENT)


def _poisson(rate_per_s: float, duration_s: float) -> NDArray[np.float64]:
    """The same plan for every client, and in every run."""
    rng = np.random.default_rng(0)
    gaps_s: NDArray[np.float64] = rng.exponential(1 / rate_per_s, max(2, round(rate_per_s * duration_s)))
    return np.cumsum(gaps_s)


def _figures(
    client: str,
    rate_per_s: float,
    actors: int,
    planned_s: NDArray[np.float64],
    arrived_s: NDArray[np.float64],
    cpu_ms_per_request: float | None,
    ok: int | None,
) -> RateFigures:
    lag_ms = 1e3 * (arrived_s - planned_s)
    is_complete = bool(np.isfinite(lag_ms).all())
    p50, p99 = np.quantile(lag_ms, [0.5, 0.99]).tolist() if is_complete else (None, None)
    seen_s = np.sort(arrived_s[np.isfinite(arrived_s)])
    return RateFigures(
        client=client,
        rate_per_s=rate_per_s,
        actors=actors,
        requests=len(planned_s),
        planned_per_s=_rate(planned_s),
        achieved_per_s=_rate(seen_s),
        lag_p50_ms=p50,
        lag_p99_ms=p99,
        planned_cv=_cv(planned_s),
        arrived_cv=_cv(seen_s),
        cpu_ms_per_request=cpu_ms_per_request,
        ok=ok,
    )


def _rate(instants_s: NDArray[np.float64]) -> float:
    return (len(instants_s) - 1) / float(np.ptp(instants_s)) if len(instants_s) > 1 else 0.0


def _cv(instants_s: NDArray[np.float64]) -> float:
    gaps_s = np.diff(instants_s)
    return float(gaps_s.std() / gaps_s.mean()) if len(gaps_s) > 1 else 0.0


def _or_infinite(value: float | None) -> float:
    return float("inf") if value is None else value
