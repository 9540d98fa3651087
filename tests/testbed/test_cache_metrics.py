"""The share of prompts that prefix caches had: sums over engines and time; nothing where there is no cache."""

import pandas as pd

from testbed.cache_metrics import summarise_prefix_cache


def engine(looked_up: list[int | None], found: list[int | None]) -> pd.DataFrame:
    return pd.DataFrame({"looked_up_tokens": looked_up, "found_tokens": found})


def test_tokens_are_summed_and_intervals_without_a_cache_left_out() -> None:
    summary = summarise_prefix_cache(engine([100, None, 300], [0, None, 100]))
    assert summary == {"looked_up_tokens": 400, "found_tokens": 100, "found_fraction": 0.25}


def test_where_no_engine_has_a_cache_there_is_nothing_to_say() -> None:
    assert summarise_prefix_cache(engine([None, None], [None, None])) is None
    assert summarise_prefix_cache(engine([], [])) is None


def test_a_cache_that_nobody_asked_has_no_share() -> None:
    assert summarise_prefix_cache(engine([0], [0])) == {
        "looked_up_tokens": 0,
        "found_tokens": 0,
        "found_fraction": None,
    }
