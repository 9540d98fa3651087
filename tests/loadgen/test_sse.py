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


def running(*tokens: int | None, text: bytes = b"a", total: int | None = None) -> StreamedAnswer:
    """An answer whose chunks say how many tokens there are by then (None = one does not), and perhaps in all."""
    answer = StreamedAnswer()
    for place, so_far in enumerate(tokens):
        usage = b"" if so_far is None else b',"usage":{"prompt_tokens":9,"completion_tokens":%d}' % so_far
        answer.feed(b'data: {"choices":[{"text":"%b"}]%b}\n\n' % (text, usage), float(place))
    if total is not None:
        answer.feed(b'data: {"choices":[],"usage":{"completion_tokens":%d}}\n\n' % total, 9.0)
    return answer


@pytest.mark.parametrize(
    ("answer", "tokens"),
    [
        (running(2, 5, 6), (2, 3, 1)),
        (running(2, 5, 6, total=6), (2, 3, 1)),
        (running(1, 2, 3, total=4), (1, 1, 1)),  # the last one has no text
        (running(1, 1, 3), (1, 0, 2)),  # the second chunk holds the rest of a token's text
        (running(1, 2, 3, total=3), None),  # one each needs not be told
        (running(None, None, total=6), None),
        (running(2, None, 6), None),
        (running(3, 2, 6), None),
        (running(2, 5, total=4), None),
        (running(), None),
    ],
)
def test_the_tokens_of_each_chunk_are_told_by_the_running_usage(
    answer: StreamedAnswer, tokens: tuple[int, ...] | None
) -> None:
    assert answer.chunk_tokens() == tokens


def test_text_cannot_pass_for_a_count_of_tokens() -> None:
    says = rb"\"usage\": {\"completion_tokens\": 7}"
    assert running(None, None, text=says).chunk_tokens() is None
    assert running(2, 4, text=says).chunk_tokens() == (2, 2)


def test_a_chunk_without_text_counts_with_the_next() -> None:
    answer = StreamedAnswer()
    for text, so_far in ((b"", 0), (b"a", 1), (b"", 2), (b"b", 3)):
        event = b'data: {"choices":[{"text":"%b"}],"usage": {"completion_tokens": %d, "total_tokens": 12}}\n\n'
        answer.feed(event % (text, so_far), float(so_far))
    assert answer.content_s == [1.0, 3.0]
    assert answer.chunk_tokens() == (1, 2)


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
