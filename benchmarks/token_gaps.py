"""The gaps between the tokens of one engine's requests, which the records of a simulated fleet don't have."""

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from autoscaler.simulator.engine_kernel import add_request, begin_step, complete_step
from autoscaler.simulator.fleet import Fleet
from autoscaler.simulator.fleet_config import FleetConfig
from autoscaler.simulator.replica_kernel import engine_of
from loadgen.trace import Trace


@dataclass(frozen=True, slots=True, eq=False)
class TokenTimes:
    """What one engine did, step by step.

    Attributes:
        first_token_s, finished_s: f64[requests].
        gaps_s: f64[output tokens - requests], in order of time.
        reused_tokens: tokens that the prefix cache had, of all admissions.
        preemptions: times that a request lost its KV blocks.
    """

    first_token_s: NDArray[np.float64]
    finished_s: NDArray[np.float64]
    gaps_s: NDArray[np.float64]
    reused_tokens: int
    preemptions: int


def token_times(trace: Trace, config: FleetConfig) -> TokenTimes:
    """Serve the trace on the first engine of a fleet, step by step and with no fleet around it.

    As in the fleet simulator: an idle engine begins with the first request of an instant, the others of that instant
    wait for the step's end, and so does one that arrives at the very end of a step for the end of the next.
    """
    arrays, requests, rules = Fleet(trace, config, np.random.default_rng(0)).compiled
    first_s, last_s = np.full(len(trace), np.nan), np.full(len(trace), np.nan)
    gaps_s = np.empty(int(requests["output_tokens"].sum()) - len(trace))
    _serve(arrays, requests, rules, first_s, last_s, gaps_s)
    engine = arrays.states[0]
    return TokenTimes(first_s, last_s, gaps_s, int(engine["found_tokens"]), int(engine["preemptions"]))


# Not kept on disk: only the simulator's own folders are checked for outdated code.
@numba.njit  # type: ignore[untyped-decorator]
def _serve(
    arrays: Any,
    requests: NDArray[np.void],
    rules: Any,
    first_s: NDArray[np.float64],
    last_s: NDArray[np.float64],
    gaps_s: NDArray[np.float64],
) -> None:
    """Fill in the requests' first and last tokens, and all gaps."""
    engine = engine_of(arrays, 0)
    now_s, sent, gaps = 0.0, 0, 0
    while sent < len(requests) or engine.state.running + engine.state.waiting > 0:
        if engine.state.running + engine.state.waiting == 0:
            now_s = requests[sent].arrival_s
            add_request(engine, sent, requests[sent].prompt_tokens, requests[sent].output_tokens)
            sent += 1
        now_s += begin_step(engine, rules.limits, rules.costs)
        complete_step(engine)
        for place in range(engine.state.step_delivered):
            slot = engine.slots[engine.delivered_slots[place]]
            if slot.produced_tokens == 1:
                first_s[slot.request] = now_s
            else:
                gaps_s[gaps] = now_s - last_s[slot.request]
                gaps += 1
            last_s[slot.request] = now_s
        while sent < len(requests) and requests[sent].arrival_s < now_s:
            add_request(engine, sent, requests[sent].prompt_tokens, requests[sent].output_tokens)
            sent += 1
