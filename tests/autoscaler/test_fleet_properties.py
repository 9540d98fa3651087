"""What no run of the simulated fleet may break, and that it does what its engines do alone."""

from dataclasses import replace

import numpy as np
from drawn_fleets import engine_options, fleets, gaps, paths, run_script, scripts, traffic, with_prefix
from hypothesis import given, settings
from hypothesis import strategies as st
from small_fleets import HARDWARE, config, fates, fleet_of, trace

from autoscaler.interface import Priority
from autoscaler.simulator.engine import EngineStepper
from autoscaler.simulator.engine_options import EngineOptions
from autoscaler.simulator.fleet_state import Fate
from autoscaler.simulator.prompt_texts import prompt_texts

requests_at_once = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 30)), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(
    requests=requests_at_once,
    blocks=st.integers(24, 41),
    event_skipping=st.booleans(),
    paths=paths,
    prefix_caching=st.booleans(),
    options=engine_options,
)
def test_a_replica_does_what_the_engine_does_step_by_step(
    requests: list[tuple[int, int]],
    blocks: int,
    event_skipping: bool,
    paths: list[list[int]],
    prefix_caching: bool,
    options: EngineOptions,
) -> None:
    hardware = replace(HARDWARE, kv_cache_tokens=4 * blocks)
    # the first is alone at 0; the others come while it is in its first step
    prompts, outputs = zip(*requests, strict=True)
    arrivals = [0.0] + [0.001] * (len(requests) - 1)
    sent = with_prefix(trace(arrivals, prompts, outputs), paths)
    options = replace(options, prediction_sigma=0.0)
    one = config(hardware=hardware, prefix_caching=prefix_caching, engine=options)
    fleet = fleet_of(sent, one, event_skipping=event_skipping)
    fleet.advance(1000.0)
    texts, now_s = prompt_texts(sent.prefix) if prefix_caching else None, 0.0
    engine = EngineStepper(hardware, texts=texts, options=options)
    first_s: dict[int, float] = {}
    end_s: dict[int, float] = {}
    waiting = list(enumerate(requests))

    def add(number: int, prompt_tokens: int, output_tokens: int) -> None:
        engine.add(number, prompt_tokens, output_tokens, options.rank(Priority.INTERACTIVE, output_tokens))

    number, request = waiting.pop(0)
    add(number, *request)
    while (step := engine.step()) is not None:
        now_s += step.duration_s
        for number, request in waiting:
            add(number, *request)
        waiting = []
        for number, tokens in step.tokens:
            if tokens == 1:
                first_s[number] = now_s
        end_s |= dict.fromkeys(step.finished, now_s)
    assert fleet.requests.first_token_s.tolist() == [first_s[number] for number in range(len(requests))]
    assert fleet.requests.finished_s.tolist() == [end_s[number] for number in range(len(requests))]


@settings(max_examples=80, deadline=None)
@given(gaps=gaps, fleet_settings=fleets, script=scripts)
def test_no_request_is_lost_and_every_token_is_counted_once(
    gaps: list[tuple[float, int, int, int]], fleet_settings: dict[str, object], script: list[tuple[float, int]]
) -> None:
    fleet = run_script(traffic(gaps), fleet_settings, script, event_skipping=True)
    requests, ended = fleet.requests, fates(fleet)
    assert fleet.all_ended
    assert all(fate >= Fate.OK for fate in ended)
    assert not np.isnan(requests.finished_s).any()
    ok = requests.fate == Fate.OK
    assert np.array_equal(requests.received_tokens[ok], requests.output_tokens[ok])
    assert (requests.received_tokens[~ok] < requests.output_tokens[~ok]).all()
    assert np.array_equal(np.isnan(requests.first_token_s), requests.received_tokens == 0)
    assert sum(sample.output_tokens for sample in fleet.samples) == requests.received_tokens.sum()
    deadline_s = np.array([service.slo.deadline_s for service in fleet_settings["services"].values()])[requests.service]  # type: ignore[attr-defined]
    assert (requests.finished_s <= requests.arrival_s + deadline_s + 1e-9).all()
    served = requests.replica >= 0
    assert (ok <= served).all()


@settings(max_examples=80, deadline=None)
@given(gaps=gaps, fleet_settings=fleets, script=scripts)
def test_jumping_over_steps_gives_the_same_bytes_as_going_step_by_step(
    gaps: list[tuple[float, int, int, int]], fleet_settings: dict[str, object], script: list[tuple[float, int]]
) -> None:
    jumped = run_script(traffic(gaps), fleet_settings, script, event_skipping=True)
    stepped = run_script(traffic(gaps), fleet_settings, script, event_skipping=False)
    for name in ("fate", "first_token_s", "finished_s", "received_tokens", "replica"):
        assert getattr(jumped.requests, name).tobytes() == getattr(stepped.requests, name).tobytes(), name
    assert jumped.samples == stepped.samples
    assert jumped.lives == stepped.lives


@settings(max_examples=80, deadline=None)
@given(gaps=gaps, paths=paths, fleet_settings=fleets, script=scripts)
def test_with_a_prefix_cache_jumping_gives_the_same_bytes_too_and_blocks_add_up(
    gaps: list[tuple[float, int, int, int]],
    paths: list[list[int]],
    fleet_settings: dict[str, object],
    script: list[tuple[float, int]],
) -> None:
    requests = with_prefix(traffic(gaps), paths)
    cached = {**fleet_settings, "prefix_caching": True}
    jumped = run_script(requests, cached, script, event_skipping=True)
    stepped = run_script(requests, cached, script, event_skipping=False)
    assert jumped.all_ended
    for name in ("fate", "first_token_s", "finished_s", "received_tokens", "replica"):
        assert getattr(jumped.requests, name).tobytes() == getattr(stepped.requests, name).tobytes(), name
    assert jumped.samples == stepped.samples
    assert jumped.lives == stepped.lives
