"""Where requests are in vLLM, told as stories of what its front process sees."""

from dataclasses import dataclass

import pytest

from loadgen.records import Phase
from serve_app.engines.vllm_phase import LastStep, client_request_id


@dataclass
class Stats:
    """As vLLM keeps them of a request."""

    arrival_time: float
    num_generation_tokens: int = 0
    last_token_ts: float = 0.0


@dataclass
class State:
    """A request."""

    stats: Stats | None


def test_requests_that_run_came_before_those_that_wait() -> None:
    """Two of four run at the end of the step at 10 s; a fifth came after it."""
    states = {name: State(Stats(at_s)) for name, at_s in (("a", 1.0), ("b", 2.0), ("c", 3.0), ("d", 4.0))}
    step = LastStep()
    step.ended(10.0, 2, 2, states.values())
    states["e"] = State(Stats(10.5))
    assert [step.phase(name, states) for name in "abcde"] == [
        Phase.PREFILL, Phase.PREFILL, Phase.ENGINE_QUEUE, Phase.ENGINE_QUEUE, None,
    ]  # fmt: skip
    del states["a"], states["c"]  # aborted since: the others are where they were
    assert [step.phase(name, states) for name in "bd"] == [Phase.PREFILL, Phase.ENGINE_QUEUE]


def test_a_request_that_gets_its_tokens_is_in_its_decode() -> None:
    """'b' got none in the last step: it was put back, or is computed anew, and nobody knows which."""
    states = {"a": State(Stats(1.0, 7, last_token_ts=50.0)), "b": State(Stats(2.0, 5, last_token_ts=49.9))}
    step = LastStep()
    step.ended(10.0, 1, 1, states.values())
    assert [step.phase(name, states) for name in "ab"] == [Phase.DECODE, None]
    step.ended(10.1, 2, 0, states.values())
    assert [step.phase(name, states) for name in "ab"] == [Phase.DECODE, Phase.DECODE], "nobody waits"


def test_a_request_that_is_alone_waits_for_nobody() -> None:
    states = {"a": State(Stats(11.0))}
    step = LastStep()
    assert step.phase("a", states) is Phase.PREFILL
    step.ended(10.0, 0, 0, {}.values())
    assert step.phase("a", states) is Phase.PREFILL


def test_without_statistics_nothing_is_known() -> None:
    step = LastStep()
    step.ended(10.0, 0, 1, [State(None)])
    assert step.phase("a", {"a": State(None)}) is None


@pytest.mark.parametrize(
    ("engine_request_id", "ours"),
    [("chatcmpl-1a2b-7", "1a2b-7"), ("cmpl-1a2b-7-0", "1a2b-7"), ("cmpl-1a2b-0-0", "1a2b-0"), ("other", "other")],
)
def test_ids_are_ours_again(engine_request_id: str, ours: str) -> None:
    assert client_request_id(engine_request_id) == ours
