"""Heads and chunked bodies are read right however the network cuts them, and refused by one error."""

from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.http_body import ChunkedBody
from loadgen.http_head import BadAnswer, end_of_head, parse_head


@given(st.binary(max_size=300), st.binary(max_size=300), st.lists(st.integers(1, 50), max_size=20))
@settings(max_examples=300, deadline=None)
def test_no_bytes_make_the_readers_fail_otherwise_than_they_say(head: bytes, body: bytes, cuts: list[int]) -> None:
    try:
        if (end := end_of_head(b"HTTP/1.1 200 OK\r\n" + head)) is not None:
            parse_head((b"HTTP/1.1 200 OK\r\n" + head)[:end])
    except BadAnswer:
        pass
    reader, at = ChunkedBody(), 0
    try:
        for cut in [*cuts, len(body)]:
            if body[at : at + cut] and not reader.is_whole:
                reader.feed(body[at : at + cut])
            at += cut
    except BadAnswer:
        pass


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=8),
    st.lists(st.integers(1, 15), max_size=60),
    st.sampled_from([b"", b"; name=value", b" "]),
    st.sampled_from([b"", b"x-trailer: y\r\n"]),
)
def test_chunks_come_out_whole_however_the_network_cut_them(
    contents: list[bytes], cuts: list[int], extension: bytes, trailer: bytes
) -> None:
    wire = b"".join(b"%X%b\r\n%b\r\n" % (len(content), extension, content) for content in contents)
    wire += b"0" + extension + b"\r\n" + trailer + b"\r\n"
    reader, at, found = ChunkedBody(), 0, b""
    for cut in [*cuts, len(wire)]:
        if at < len(wire):
            assert not reader.is_whole
            found += reader.feed(wire[at : at + cut])
        at += cut
    assert found == b"".join(contents)
    assert (reader.is_whole, reader.has_excess) == (True, False)
