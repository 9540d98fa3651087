"""A plan asks for what the trace holds, the same by however many actors it is sent."""

import json
from dataclasses import replace
from typing import Any

import numpy as np

from loadgen.plan import PlannedRequest, RequestForm, plan_requests, planned_columns
from loadgen.prefix import PrefixBlocks
from loadgen.prompts.synthetic import synthetic_prompts
from loadgen.records import PLANNED_SCHEMA
from loadgen.trace import Service, Trace


def trace(*requests: tuple[float, Service, int, int]) -> Trace:
    """A trace of (arrival, service, prompt tokens, output tokens)."""
    arrival_s, service, prompt_tokens, output_tokens = zip(*requests, strict=True)
    return Trace(
        name="t",
        duration_s=100.0,
        arrival_s=np.array(arrival_s, dtype=np.float64),
        prompt_tokens=np.array(prompt_tokens, dtype=np.int32),
        output_tokens=np.array(output_tokens, dtype=np.int32),
        service=np.array(service, dtype=np.int8),
        model=np.zeros(len(requests), dtype=np.int16),
        session=np.arange(len(requests)),
        model_names=("GPT-4",),
    )


TRACE = trace((0.5, Service.CONVERSATION, 3, 20), (1.0, Service.API, 0, 0), (2.5, Service.API, 7, 9))


def plan(
    rows: list[int], extra_body: dict[str, Any] | None = None, seed: int = 1, whole: Trace = TRACE
) -> list[PlannedRequest]:
    form = RequestForm("m", {"conversation": 30.0, "api": 60.0}, seed, "tag", extra_body or {})
    return list(plan_requests(whole, rows, form, synthetic_prompts()))


def test_a_conversation_goes_to_chat_completions_and_an_api_request_to_completions() -> None:
    chat, _, completion = plan([0, 1, 2])
    assert (chat.path, completion.path) == ("/v1/chat/completions", "/v1/completions")
    body = json.loads(chat.body)
    assert body["model"] == "m"
    assert (body["max_tokens"], body["ignore_eos"]) == (20, True)  # together they force the length
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})
    assert len(body["messages"][0]["content"].split()) == 3
    assert len(json.loads(completion.body)["prompt"].split()) == 7
    assert chat.header_lines.decode().splitlines() == [
        "content-type: application/json",
        f"content-length: {len(chat.body)}",
        "x-request-id: tag-0",
        "x-service: conversation",
    ]
    assert (chat.scheduled_s, chat.deadline_s, completion.deadline_s) == (0.5, 30.0, 60.0)


def test_each_chunk_is_asked_for_the_tokens_so_far_where_they_are_recorded() -> None:
    form = RequestForm("m", {"conversation": 30.0, "api": 60.0}, 1, "tag", running_usage=True)
    for request in plan_requests(TRACE, [0, 1], form, synthetic_prompts()):
        asked = json.loads(request.body)["stream_options"]
        assert asked == {"include_usage": True, "continuous_usage_stats": True}


def test_a_request_that_failed_when_recorded_asks_for_one_token_and_keeps_its_planned_size() -> None:
    recorded_as_failed = plan([1])[0]
    assert json.loads(recorded_as_failed.body)["max_tokens"] == 1
    assert len(json.loads(recorded_as_failed.body)["prompt"].split()) == 1
    assert recorded_as_failed.prompt_tokens == 0


def test_a_request_is_the_same_in_whatever_shard_it_is() -> None:
    assert plan([0, 1, 2]) == [*plan([0]), *plan([1]), *plan([2])]
    assert plan([2])[0].body != plan([2], seed=2)[0].body


def test_extra_body_adds_replaces_and_takes_away() -> None:
    body = json.loads(plan([0], {"temperature": 0, "max_tokens": 5, "ignore_eos": None})[0].body)
    assert (body["temperature"], body["max_tokens"]) == (0, 5)
    assert "ignore_eos" not in body


def test_where_the_engine_ends_the_answer_only_its_longest_length_is_asked_for() -> None:
    free = replace(TRACE, output_is_limit=np.array([True, False, False]))
    limited, _, forced = (json.loads(request.body) for request in plan([0, 1, 2], whole=free))
    assert limited["max_tokens"] == 20
    assert "ignore_eos" not in limited
    assert (forced["max_tokens"], forced["ignore_eos"]) == (9, True)


def test_turns_of_a_conversation_and_recorded_blocks_share_their_text() -> None:
    turns = trace((0.0, Service.CONVERSATION, 4, 3), (1.0, Service.CONVERSATION, 9, 3), (2.0, Service.API, 8, 1))
    prefix = PrefixBlocks(4, np.array([0, 0, 0, 2]), np.array([11, 12]))
    shared = replace(turns, session=np.array([5, 5, 6]), prefix=prefix)
    first, second, third = (json.loads(request.body) for request in plan([0, 1, 2], whole=shared))
    assert second["messages"][0]["content"].startswith(first["messages"][0]["content"] + " ")
    alone = plan([0], whole=replace(shared.take(np.array([2])), session=np.array([9])))
    assert json.loads(alone[0].body)["prompt"] == third["prompt"]


def test_planned_columns_are_what_the_records_will_be_held_against() -> None:
    columns = planned_columns(TRACE, "m")
    assert columns.schema == PLANNED_SCHEMA
    assert columns.to_pylist() == [
        {
            "request_id": request.request_id,
            "service": request.service,
            "model": request.model,
            "prompt_tokens": request.prompt_tokens,
            "scheduled_s": request.scheduled_s,
        }
        for request in plan([0, 1, 2])
    ]
