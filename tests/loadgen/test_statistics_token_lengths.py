"""Lengths: humps, exponents and correlations are found as they were drawn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from loadgen.statistics.token_lengths import describe_lengths, relate_lengths


def lognormal(rng: np.random.Generator, median: float, sigma: float, count: int) -> np.ndarray:
    return np.maximum(1, np.rint(median * np.exp(sigma * rng.standard_normal(count)))).astype(np.int32)


@pytest.mark.parametrize("count", [50, 1000, 200_000])
def test_one_hump_is_one_mode(count: int) -> None:
    found = [describe_lengths(lognormal(np.random.default_rng(seed), 300, 0.8, count)) for seed in range(20)]
    single = [lengths for lengths in found if len(lengths.modes) == 1]
    assert len(single) >= 19
    assert all(lengths.valley_depth is None for lengths in single)
    assert np.median([lengths.modes[0].tokens for lengths in single]) == pytest.approx(300, rel=0.2)
    assert all((lengths.modes[0].height, lengths.modes[0].prominence) == (1.0, 1.0) for lengths in single)


def test_two_humps_are_two_modes_with_a_valley() -> None:
    rng = np.random.default_rng(1)
    tokens = np.concatenate([lognormal(rng, 20, 0.4, 3000), lognormal(rng, 600, 0.4, 2000)])
    found = describe_lengths(tokens)
    assert [mode.tokens for mode in found.modes] == pytest.approx([20, 600], rel=0.1)
    assert found.valley_depth is not None
    assert found.valley_depth > 0.95
    assert found.sarle_coefficient is not None
    assert found.sarle_coefficient > 5 / 9


def test_short_lengths_make_no_humps_of_whole_numbers() -> None:
    tokens = np.random.default_rng(2).geometric(0.3, 100_000).astype(np.int32)
    assert len(describe_lengths(tokens).modes) == 1


def test_sarles_coefficient_is_that_of_the_logarithms() -> None:
    tokens = lognormal(np.random.default_rng(3), 100, 1.0, 5000)
    logs = np.log(tokens)
    expected = (stats.skew(logs) ** 2 + 1) / stats.kurtosis(logs, fisher=False)
    assert describe_lengths(tokens).sarle_coefficient == pytest.approx(expected)
    even = describe_lengths(np.repeat([1, 100], 50).astype(np.int32))
    assert even.sarle_coefficient == pytest.approx(1.0)


def test_zipf_lengths_fit_and_others_do_not() -> None:
    lengths = np.arange(1, 4097)
    weights = lengths**-1.1
    tokens = np.random.default_rng(4).choice(lengths, 100_000, p=weights / weights.sum()).astype(np.int32)
    zipf = describe_lengths(tokens).zipf
    assert zipf is not None
    assert zipf.theta == pytest.approx(1.1, rel=0.03)
    assert (zipf.low_tokens, zipf.high_tokens, zipf.is_clipped) == (tokens.min(), tokens.max(), False)
    assert zipf.ks_distance < 0.01
    other = describe_lengths(lognormal(np.random.default_rng(5), 300, 0.8, 10_000)).zipf
    assert other is not None
    assert other.ks_distance > 0.2


def test_the_zipf_distance_is_the_textbooks() -> None:
    tokens = np.array([3, 3, 3, 4, 5, 5, 8, 12, 20, 20, 21])
    zipf = describe_lengths(tokens.astype(np.int32)).zipf
    assert zipf is not None
    support = np.arange(3, 22)
    model = np.cumsum(support**-zipf.theta) / np.sum(support**-zipf.theta)
    seen = np.array([np.mean(tokens <= length) for length in support])
    assert zipf.ks_distance == pytest.approx(np.abs(model - seen).max())


@given(st.lists(st.integers(0, 3000), max_size=200))
def test_the_histogram_holds_every_length_above_0_once(tokens: list[int]) -> None:
    found = describe_lengths(np.array(tokens, dtype=np.int32))
    positive = [length for length in tokens if length > 0]
    assert found.histogram.counts.sum() == len(positive) == found.requests
    assert np.all(np.diff(found.histogram.edges) > 0)
    counts, _ = np.histogram(positive, found.histogram.edges)
    assert found.histogram.counts.tolist() == counts.tolist()
    if positive:
        assert found.mean_tokens == pytest.approx(np.mean(positive))
        assert found.quantiles["p95"] == pytest.approx(np.quantile(positive, 0.95))
    else:
        assert (found.mean_tokens, found.quantiles, found.zipf) == (None, {}, None)


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 5)), min_size=3, max_size=100), st.sampled_from([1, 10**7])
)
def test_correlations_agree_with_the_reference(pairs: list[tuple[int, int]], factor: int) -> None:
    prompts, outputs = (np.array(column, dtype=np.int32) for column in zip(*pairs, strict=True))
    prompts = prompts * np.int32(factor)
    found = relate_lengths(prompts, outputs)
    both = (prompts > 0) & (outputs > 0)
    prompts, outputs = prompts[both], outputs[both]
    assert found.requests == both.sum() == found.counts.sum()
    if len(set(prompts)) < 2 or len(set(outputs)) < 2:
        assert (found.spearman, found.pearson_of_logs) == (None, None)
        return
    assert found.spearman == pytest.approx(stats.spearmanr(prompts, outputs).statistic, abs=1e-9)
    assert found.pearson_of_logs == pytest.approx(np.corrcoef(np.log(prompts), np.log(outputs))[0, 1], abs=1e-9)
    counts, _, _ = np.histogram2d(prompts, outputs, [found.prompt_edges, found.output_edges])
    assert found.counts.tolist() == counts.tolist()
