"""The API in plain values: what is read from requests, what is refused, and the form of answers."""

import json
from typing import Any

import pytest

from loadgen.records import Cause, Phase
from serve_app.engines.protocol import Endpoint
from serve_app.openai_api import AnswerWriter, ApiError, error_json, read_generation, too_long


def completion(**changes: Any) -> dict[str, Any]:
    """A completion request."""
    return {"model": "m", "prompt": "a b c", "max_tokens": 5} | changes


def chat(**changes: Any) -> dict[str, Any]:
    """A chat request."""
    return {"model": "m", "messages": [{"role": "user", "content": "a b c"}]} | changes


@pytest.mark.parametrize(
    ("endpoint", "body", "words"),
    [
        ("completions", completion(), 3),
        ("completions", completion(prompt=["a b"]), 2),
        ("completions", completion(prompt=[11, 12, 13, 14]), 4),
        ("completions", completion(prompt=[[11, 12]]), 2),
        ("completions", completion(prompt=""), 0),
        ("chat", chat(), 3),
        ("chat", chat(messages=[{"role": "system", "content": "x"}, {"role": "user", "content": "a b"}]), 3),
        ("chat", chat(messages=[{"role": "user", "content": [{"type": "text", "text": "a b c d"}]}]), 4),
        ("chat", chat(messages=[{"role": "assistant", "content": None}]), 0),
    ],
)
def test_prompts_are_counted_in_words(endpoint: Endpoint, body: dict[str, Any], words: int) -> None:
    """In every form that the API knows."""
    assert read_generation(endpoint, body).prompt_words == words


def test_the_output_length_is_read_by_its_two_names() -> None:
    """The newer name of the chat API goes first; none leaves it open."""
    assert read_generation("chat", chat(max_tokens=5, max_completion_tokens=7)).max_tokens == 7
    assert read_generation("chat", chat(max_tokens=5)).max_tokens == 5
    assert read_generation("chat", chat()).max_tokens is None


@pytest.mark.parametrize(
    ("endpoint", "body", "message"),
    [
        ("completions", [], "JSON object, got list"),
        ("completions", completion(model=""), "'model'"),
        ("completions", completion(prompt=["a", "b"]), "'prompt'"),
        ("completions", completion(prompt=None), "'prompt'"),
        ("completions", completion(max_tokens=0), "'max_tokens'.*got 0"),
        ("completions", completion(max_tokens="7"), "'max_tokens'.*got '7'"),
        ("completions", completion(max_tokens=True), "'max_tokens'"),
        ("completions", completion(n=2), "'n' must be 1"),
        ("completions", completion(stream_options=3), "'stream_options'"),
        ("chat", chat(messages=[]), "'messages'"),
        ("chat", chat(messages=["hi"]), "'role'"),
        ("chat", chat(messages=[{"role": "user", "content": [7]}]), "'content'"),
    ],
)
def test_a_wrong_form_is_refused_with_what_is_wanted(endpoint: Endpoint, body: Any, message: str) -> None:
    """Status 400, and one line that says where."""
    with pytest.raises(ApiError, match=message) as refusal:
        read_generation(endpoint, body)
    assert refusal.value.status == 400


def test_an_error_document_carries_message_type_code_and_cause() -> None:
    """The cause only where there is one."""
    assert json.loads(too_long("too long").as_json()) == {
        "error": {"message": "too long", "type": "invalid_request_error", "code": 400, "cause": "too_long"}
    }
    assert "cause" not in json.loads(error_json(500, "m", "t", None))["error"]
    assert Cause(json.loads(error_json(504, "m", "t", Cause.DEADLINE_IN_QUEUE))["error"]["cause"])


def test_an_error_document_names_the_phase_where_it_is_known() -> None:
    named = ApiError(504, "m", "t", Cause.NO_READY_REPLICA, phase=Phase.COLD_START)
    assert json.loads(named.as_json())["error"]["phase"] == "cold_start"
    assert "phase" not in json.loads(too_long("too long").as_json())["error"]


def events(text: str) -> list[str]:
    """The data of server-sent events."""
    return [line.removeprefix("data: ") for line in text.split("\n\n") if line]


@pytest.mark.parametrize("include_usage", [True, False])
def test_a_stream_ends_with_its_finish_reason_usage_and_end_mark(include_usage: bool) -> None:
    """The usage is a chunk of its own, without choices."""
    body = chat(stream=True, stream_options={"include_usage": include_usage})
    writer = AnswerWriter(read_generation("chat", body), "id", 1)
    text = (
        writer.chunk("so", 1, first=True, last=False) + writer.chunk(" it", 2, first=False, last=True) + writer.end(2)
    )
    *chunks, end = events(text)
    assert end == "[DONE]"
    parsed = [json.loads(chunk) for chunk in chunks]
    assert [chunk["choices"][0]["finish_reason"] for chunk in parsed if chunk["choices"]] == [None, "length"]
    assert parsed[0]["choices"][0]["delta"] == {"role": "assistant", "content": "so"}
    assert {chunk["object"] for chunk in parsed} == {"chat.completion.chunk"}
    usages = [chunk["usage"] for chunk in parsed if "usage" in chunk]
    assert usages == ([{"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}] if include_usage else [])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"include_usage": True, "continuous_usage_stats": True}, [2, 5, 5]),
        ({"include_usage": True}, [5]),
        ({"continuous_usage_stats": True}, []),
    ],
)
def test_chunks_tell_how_many_tokens_there_are_where_that_is_asked_for(
    options: dict[str, bool], told: list[int]
) -> None:
    """As vLLM does: never without the usage at the end."""
    writer = AnswerWriter(read_generation("completions", completion(stream=True, stream_options=options)), "id", 1)
    text = writer.chunk("so it", 2, first=True, last=False) + writer.chunk(" was so it", 5, first=False, last=True)
    usages = [json.loads(event).get("usage") for event in events(text + writer.end(5))[:-1]]
    assert [usage["completion_tokens"] for usage in usages if usage] == told


def test_a_whole_answer_always_has_its_usage() -> None:
    """Both endpoints."""
    whole = json.loads(AnswerWriter(read_generation("completions", completion()), "id", 1).whole("so it", 2))
    assert (whole["object"], whole["choices"][0]["text"], whole["usage"]["total_tokens"]) == (
        "text_completion",
        "so it",
        5,
    )
    answer = json.loads(AnswerWriter(read_generation("chat", chat()), "id", 1).whole("so it", 2))
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "so it"}
