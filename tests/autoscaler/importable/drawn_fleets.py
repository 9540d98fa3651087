"""Traffic, fleets and scripts of target counts, all drawn at random and tight."""

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st
from small_fleets import HARDWARE, config, fleet_of, services, trace

from autoscaler.simulator.engine_options import AdmissionOrder, EngineOptions, Preemption
from autoscaler.simulator.fleet import Fleet
from loadgen.prefix import PrefixBlocks
from loadgen.trace import Trace


def with_prefix(requests: Trace, paths: list[list[int]]) -> Trace:
    """The trace with these texts at the beginning of its prompts."""
    numbers: dict[tuple[int, ...], int] = {}
    blocks = [
        [numbers.setdefault(tuple(path[: end + 1]), len(numbers)) for end in range(len(path))]
        for path in paths[: len(requests)]
    ]
    first = np.cumsum([0] + [len(numbered) for numbered in blocks])
    flat = np.array([number for numbered in blocks for number in numbered], np.int64)
    return replace(requests, prefix=PrefixBlocks(6, first, flat))


# Prompts walk down a small tree of texts: each choice is a recorded block of 6 tokens, no multiple of the engine's 4.
paths = st.lists(st.lists(st.sampled_from([0, 0, 0, 1]), max_size=12), min_size=40, max_size=40)
engine_options = st.builds(
    EngineOptions,
    order=st.sampled_from(AdmissionOrder),
    prediction_sigma=st.sampled_from([0.0, 1.0]),
    preemption=st.sampled_from(Preemption),
    swap_space_gib=st.sampled_from([0.0, 0.04, 4.0]),  # 10 blocks, or all
    watermark_fraction=st.sampled_from([0.0, 0.1]),
)
gaps = st.lists(
    st.tuples(st.sampled_from([0.0, 0.001, 0.02, 0.1, 0.7]), st.integers(0, 70), st.integers(0, 30), st.integers(0, 1)),
    min_size=1,
    max_size=40,
)
scripts = st.lists(st.tuples(st.sampled_from([0.05, 0.3, 1.0]), st.integers(0, 4)), max_size=12)
fleets = st.fixed_dictionaries(
    {
        "hardware": st.builds(
            lambda blocks, sequences, budget: replace(
                HARDWARE, kv_cache_tokens=4 * blocks, max_sequences=sequences, max_batched_tokens=budget
            ),
            st.integers(20, 60),
            st.integers(1, 6),
            st.integers(2, 64),
        ),
        "initial_replicas": st.integers(0, 3),
        "cold_start_s": st.sampled_from([0.0, 0.2, 2.0]),
        "max_ongoing_requests": st.integers(1, 9),
        "max_queued_requests": st.integers(1, 30),
        "drain_timeout_s": st.sampled_from([0.1, 5.0]),
        "services": st.builds(services, st.sampled_from([0.3, 2.0, 100.0]), st.sampled_from([1.0, 100.0])),
        "engine": engine_options,
    }
)


def run_script(
    requests: Trace, settings_: dict[str, object], script: list[tuple[float, int]], event_skipping: bool
) -> Fleet:
    """Follow a script of (wait, target) to the end of every request, with the engines checked at each stop."""
    fleet = fleet_of(requests, config(**settings_), event_skipping=event_skipping)
    for wait_s, target_replicas in script:
        fleet.advance(fleet.now_s + wait_s)
        fleet.check()
        fleet.scale_to(target_replicas)
        fleet.sample()
        fleet.check()
    fleet.advance(1000.0)
    fleet.check()
    fleet.close()
    return fleet


def traffic(gaps: list[tuple[float, int, int, int]]) -> Trace:
    """A trace from (seconds since the last, prompt tokens, output tokens, service)."""
    waits_s, prompts, outputs, service = zip(*gaps, strict=True)
    return trace(np.cumsum(waits_s), prompts, outputs, service)
