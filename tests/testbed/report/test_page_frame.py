"""Tiles fill their rows, whatever their number."""

from hypothesis import given
from hypothesis import strategies as st

from testbed.report.page_frame import tile_spans


@given(st.integers(1, 30), st.sampled_from([2, 4, 6]))
def test_no_row_of_tiles_has_a_hole_and_rows_differ_by_one_tile_at_most(tiles: int, most_per_row: int) -> None:
    spans = tile_spans(tiles, most_per_row)
    assert len(spans) == tiles
    rows = [0]
    filled = 0
    for span in spans:
        if filled == 60:
            rows.append(0)
            filled = 0
        rows[-1] += 1
        filled += span
        assert filled <= 60
    assert filled == 60
    assert max(rows) <= most_per_row
    assert max(rows) - min(rows) <= 1


def test_eleven_tiles_are_six_and_five() -> None:
    assert tile_spans(11, 6) == [10] * 6 + [12] * 5
