"""Events come out of a stream the same, wherever the network cut it."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.sse import EventParser, StreamedAnswer, read_error


def events_of(chunks: list[bytes]) -> list[bytes]:
    parser = EventParser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


# Text of one line; the parser never sees a bare CR or LF inside a value.
values = st.text(st.characters(blacklist_characters="\r\n", codec="utf-8"), min_size=1).map(lambda text: text.encode())


@given(
    st.lists(st.lists(values, min_size=1, max_size=3), max_size=5),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    st.lists(st.integers(0, 200), max_size=10),
)
def test_events_survive_any_cut_and_any_line_end(events: list[list[bytes]], line_end: bytes, cuts: list[int]) -> None:
    whole = b"".join(
        b": comment" + line_end + b"".join(b"data: " + line + line_end for line in lines) + b"id: 1" + line_end * 2
        for lines in events
    )
    bounds = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    chunks = [whole[low:high] for low, high in pairwise(bounds)]
    assert events_of(chunks) == [b"\n".join(lines) for lines in events]


def test_the_space_after_the_colon_is_optional_and_only_one_is_cut() -> None:
    assert events_of([b"data:a\n\ndata: b\n\ndata:  c\n\n"]) == [b"a", b"b", b" c"]


def test_blank_lines_and_comments_alone_make_no_event() -> None:
    assert events_of([b"\n\n: ping\n\nevent: x\n\n"]) == []


def test_an_event_without_its_closing_blank_line_is_no_event_yet() -> None:
    parser = EventParser()
    assert parser.feed(b"data: [DONE]") == []
    assert parser.finish() == b"[DONE]"


@pytest.mark.parametrize("end", [b"data: [DONE]", b"data: [DONE]\n", b"data: [DONE]\r\n"])
def test_done_counts_even_if_the_stream_ends_in_its_line(end: bytes) -> None:
    answer = StreamedAnswer()
    answer.feed(b'data: {"choices":[{"text":"a"}]}\n\n' + end, 1.0)
    answer.finish(2.0)
    assert answer.done_s is not None


def test_the_last_usage_block_counts() -> None:
    answer = StreamedAnswer()
    for tokens in (1, 2, 5):
        answer.feed(b'data: {"choices":[{"text":"a"}],"usage":{"completion_tokens":%d}}\n\n' % tokens, float(tokens))
    assert answer.output_tokens == 5
    assert answer.first_token_s == 1.0


def test_reasoning_is_the_first_token_too() -> None:
    answer = StreamedAnswer()
    answer.feed(b'data: {"choices":[{"delta":{"content":null,"reasoning_content":"hm"}}]}\n\n', 3.0)
    assert answer.first_token_s == 3.0


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error":{"message":"m"}}', "m"),
        (b'{"error":"m"}', "m"),
        (b'{"object":"error","message":"m","code":400}', "m"),
        (b'{"detail":"m"}', "m"),
    ],
)
def test_the_usual_shapes_of_an_error_are_read(body: bytes, message: str) -> None:
    error = read_error(body)
    assert error is not None
    assert error["message"] == message


@pytest.mark.parametrize("body", [b"", b"not json", b"[1]", b'{"choices":[]}', b'{"error":null}'])
def test_what_is_no_error_is_none(body: bytes) -> None:
    assert read_error(body) is None
