"""Gaps between chunks and between tokens, by hand."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.chunk_gaps import chunk_gaps_s, token_gaps
from loadgen.metrics import summarise_records
from tests.loadgen.test_metrics import table


def answers(*answers: tuple[int, list[float] | None, list[int] | None]) -> pd.DataFrame:
    """Answers of so many tokens, with the instants of their chunks and the tokens of each."""
    return pd.DataFrame(
        {
            "output_tokens": [tokens for tokens, _, _ in answers],
            "chunk_offsets_s": [offsets_s for _, offsets_s, _ in answers],
            "chunk_tokens": [carried for _, _, carried in answers],
        }
    )


def each_token_s(frame: pd.DataFrame) -> list[float]:
    """The gap before each token, rounded."""
    gaps = token_gaps(frame)
    return [round(float(gap), 9) for gap, count in zip(gaps.gap_s, gaps.tokens, strict=True) for _ in range(int(count))]


def test_the_gap_of_a_chunk_is_shared_by_its_tokens() -> None:
    frame = answers((9, [0.0, 0.4, 0.5, 1.1], [2, 4, 1, 2]))
    assert each_token_s(frame) == [0.1, 0.1, 0.1, 0.1, 0.1, 0.3, 0.3]
    assert chunk_gaps_s(frame) == pytest.approx([0.4, 0.1, 0.6])


def test_chunks_of_one_token_have_the_same_gaps_both_ways() -> None:
    frame = answers((3, [0.0, 0.25, 1.0], None))
    assert each_token_s(frame) == [0.25, 0.75]
    assert (token_gaps(frame).counted, token_gaps(frame).averaged) == (1, 0)


def test_where_only_all_tokens_are_known_each_chunk_carries_their_mean() -> None:
    gaps = token_gaps(answers((12, [0.0, 0.2, 0.6, 0.8], None)))
    assert gaps.gap_s == pytest.approx([0.2 / 3, 0.4 / 3, 0.2 / 3])
    assert gaps.tokens.tolist() == [3, 3, 3]
    assert (gaps.counted, gaps.averaged) == (0, 1)


def test_the_rest_of_a_tokens_text_is_no_gap_of_its_own() -> None:
    assert each_token_s(answers((3, [0.0, 0.1, 0.3, 0.4], [1, 0, 2, 0]))) == [0.15, 0.15]


def test_answers_of_one_chunk_or_none_have_no_gaps_and_are_not_counted() -> None:
    gaps = token_gaps(answers((5, [0.0], None), (5, None, None), (5, [0.0], [5])))
    assert (len(gaps.gap_s), gaps.counted, gaps.averaged) == (0, 0, 0)
    assert len(token_gaps(pd.DataFrame({"output_tokens": [1]})).gap_s) == 0


chunks = st.lists(st.tuples(st.integers(1, 9), st.floats(0, 5)), min_size=2, max_size=9)


@given(st.lists(chunks, min_size=1, max_size=4), st.booleans())
def test_time_and_tokens_are_conserved(streams: list[list[tuple[int, float]]], is_told: bool) -> None:
    """All gaps together last from first to last chunk, and stand for all tokens after the first chunk's."""
    rows: list[tuple[int, list[float] | None, list[int] | None]] = []
    span_s = 0.0
    for stream in streams:
        carried, offsets_s = [tokens for tokens, _ in stream], np.cumsum([0.0, *(gap for _, gap in stream[1:])])
        rows.append((sum(carried), offsets_s.tolist(), carried if is_told else None))
        span_s += float(offsets_s[-1])
    gaps = token_gaps(answers(*rows))
    first = [row[2][0] if row[2] is not None else row[0] / len(row[1] or ()) for row in rows]
    assert float(gaps.gap_s @ gaps.tokens) == pytest.approx(span_s)
    assert float(gaps.tokens.sum()) == pytest.approx(sum(row[0] for row in rows) - sum(first))


def test_the_summary_weighs_gaps_by_tokens_and_says_how_many_answers_are_averaged() -> None:
    rows: list[dict[str, Any]] = [
        {"output_tokens": 101, "chunk_offsets_s": [0.0, 9.9, 10.0], "chunk_tokens": [1, 99, 1]},
        {"output_tokens": 1, "chunk_offsets_s": [0.0]},
        {"output_tokens": 6, "chunk_offsets_s": [0.0, 6.0]},
        {"output_tokens": 6, "chunk_offsets_s": None},
        {"output_tokens": 8, "chunk_offsets_s": [0.0, 0.5], "status": "failed", "cause": "stream_cut"},
    ]
    total = summarise_records(table(*rows), {}).total
    # A hundred tokens after a tenth of a second each, and three of two seconds each.
    by_hand = sorted([0.1] * 100 + [2.0] * 3)
    gap = total.gap_per_token
    assert total.gap_per_token_requests == {"counted": 1, "averaged": 1}
    assert (gap.p50_s, gap.p90_s, gap.p99_s) == pytest.approx((by_hand[51], by_hand[92], by_hand[101]), rel=1e-6)
    assert gap.mean_s == pytest.approx(np.mean(by_hand), rel=1e-6)
    assert total.gap_per_chunk.p99_s == pytest.approx(9.9, rel=1e-6)
