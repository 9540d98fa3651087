"""Traffic of more or fewer users has the shape of the recorded one, and says truly what becomes of its burstiness."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from loadgen.errors import InputError
from loadgen.formats.detect import read_trace
from loadgen.prefix import PrefixBlocks
from loadgen.scaling import with_rate_factor
from loadgen.trace import Service, Trace, make_trace

AZURE = Path(__file__).parents[2] / "../shared/data/traces/azure_2023/AzureLLMInferenceTrace_conv.csv"
COLUMNS = ("arrival_s", "prompt_tokens", "output_tokens", "service", "model", "session")


def poisson_trace(rate_per_s: float, duration_s: float, seed: int = 0) -> Trace:
    rng = np.random.default_rng(seed)
    arrivals = np.sort(rng.uniform(0, duration_s, rng.poisson(rate_per_s * duration_s)))
    return make_trace("poisson", arrivals, np.full(len(arrivals), 9), np.full(len(arrivals), 9), duration_s=duration_s)


def two_service_day(seed: int = 0) -> Trace:
    """A conversation stream with an hourly profile, and an API job of 5,000 requests from 9:00 to 9:20."""
    rng = np.random.default_rng(seed)
    hours = rng.choice(24, 12_000, p=profile())
    chat = hours * 3600.0 + rng.uniform(0, 3600, len(hours))
    job = rng.uniform(9 * 3600, 9 * 3600 + 1200, 5_000)
    arrivals = np.concatenate([chat, job])
    service = np.repeat([Service.CONVERSATION, Service.API], [len(chat), len(job)])
    order = np.argsort(arrivals)
    size = len(arrivals)
    return make_trace(
        "day",
        arrivals[order],
        rng.integers(1, 999, size),
        rng.integers(0, 999, size),
        duration_s=86_400.0,
        service=service[order],
    )


def profile() -> NDArray[np.float64]:
    weights = 1.0 + np.sin(np.arange(24) * np.pi / 12) * 0.9
    return weights / weights.sum()


def fano(arrival_s: NDArray[np.float64], window_s: float, duration_s: float) -> float:
    counts = np.bincount((arrival_s / window_s).astype(int), minlength=int(duration_s / window_s))
    return float(counts.var() / counts.mean())


@st.composite
def session_traces(draw: st.DrawFn) -> Trace:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows = draw(st.integers(1, 60))
    duration_s = draw(st.floats(0.01, 1e6))
    arrivals = np.minimum(np.sort(rng.uniform(0, duration_s, rows)), np.nextafter(duration_s, 0))
    if draw(st.booleans()):
        arrivals = np.floor(arrivals)
    numbers = rng.integers(-(2**62), 2**62, rows)
    first = np.concatenate([[0], np.cumsum(rng.integers(0, 4, rows))])
    return make_trace(
        "any",
        arrivals,
        np.arange(rows),
        rng.integers(0, 9, rows),
        duration_s=duration_s,
        service=rng.integers(0, 2, rows),
        session=numbers[rng.integers(0, rows, rows)],
        prefix=draw(st.sampled_from([None, PrefixBlocks(16, first, rng.integers(0, 9, first[-1]))])),
    )


@given(session_traces(), st.floats(0.05, 6.0), st.integers(0, 2**32), st.floats(0, 1e7))
def test_a_scaled_trace_is_a_valid_one_of_whole_sessions(
    trace: Trace, factor: float, seed: int, jitter_s: float
) -> None:
    scaled = with_rate_factor(trace, factor, np.random.default_rng(seed), jitter_s)
    # make_trace checks order, bounds and lengths.
    make_trace(
        scaled.name,
        scaled.arrival_s,
        scaled.prompt_tokens,
        scaled.output_tokens,
        duration_s=trace.duration_s,
        session=scaled.session,
        service=scaled.service,
        prefix=scaled.prefix,
    )
    # Every request is in the result floor(factor) times, or once more; prompt_tokens tells them apart.
    times = np.bincount(scaled.prompt_tokens, minlength=len(trace))
    whole = int(factor)
    assert np.all((times == whole) | (times == whole + 1))
    # A session of the result is exactly one session of the trace, with its pauses.
    whole_sessions = {tuple(trace.prompt_tokens[trace.session == number]) for number in trace.session}
    for number in np.unique(scaled.session):
        rows = np.flatnonzero(scaled.session == number)
        rows = rows[np.argsort(scaled.prompt_tokens[rows])]
        members = scaled.prompt_tokens[rows]
        assert tuple(members) in whole_sessions
        moves = scaled.arrival_s[rows] - trace.arrival_s[members]
        np.testing.assert_allclose(moves, moves[0], atol=1e-9 * trace.duration_s)
        assert abs(moves[0]) <= jitter_s + 1e-9 * trace.duration_s


@given(session_traces(), st.floats(0.05, 4.0), st.integers(0, 2**32))
def test_the_same_seed_gives_the_same_bytes(trace: Trace, factor: float, seed: int) -> None:
    one, other = (with_rate_factor(trace, factor, np.random.default_rng(seed)) for _ in range(2))
    for column in COLUMNS:
        assert getattr(one, column).tobytes() == getattr(other, column).tobytes()


@given(session_traces(), st.integers(2, 5), st.integers(0, 2**32))
def test_prompts_share_their_beginnings_within_a_copy_as_recorded_and_with_no_other_copy(
    trace: Trace, factor: int, seed: int
) -> None:
    scaled = with_rate_factor(trace, factor, np.random.default_rng(seed))
    if trace.prefix is None:
        assert scaled.prefix is None
        return
    assert scaled.prefix is not None
    assert scaled.prefix.block_tokens == trace.prefix.block_tokens
    # A block of the result stands for one of the trace, in one copy: as many of each as there are copies.
    stands_for: dict[int, int] = {}
    for row, original in enumerate(scaled.prompt_tokens):
        recorded = trace.prefix.of(int(original))
        for mine, theirs in zip(scaled.prefix.of(row), recorded, strict=True):
            assert stands_for.setdefault(int(mine), int(theirs)) == theirs
    assert len(stands_for) == factor * len(np.unique(trace.prefix.block))


def test_factor_one_is_the_recording_itself() -> None:
    trace = two_service_day()
    assert with_rate_factor(trace, 1.0, np.random.default_rng(0)) is trace


def test_the_recording_is_the_first_copy_unmoved() -> None:
    trace = poisson_trace(2.0, 300.0)
    scaled = with_rate_factor(trace, 3.0, np.random.default_rng(0))
    assert np.all(np.isin(trace.arrival_s, scaled.arrival_s))


@pytest.mark.parametrize("factor", [0.25, 0.6, 1.5, 2.0, 3.3])
def test_totals_hourly_profile_and_shares_of_the_services_are_kept(factor: float) -> None:
    trace = two_service_day()
    scaled = with_rate_factor(trace, factor, np.random.default_rng(1))
    expected = factor * len(trace)
    part = factor % 1
    assert abs(len(scaled) - expected) <= 4 * np.sqrt(len(trace) * part * (1 - part))
    for service in Service:
        recorded, made = (one.of_service(service) for one in (trace, scaled))
        hourly = [np.bincount((one.arrival_s // 3600).astype(int), minlength=24) for one in (recorded, made)]
        # Chance in the thinned part; and of each copy the 16 requests nearest to an edge of the hour may cross it.
        allowed = 4 * np.sqrt(hourly[0] * part * (1 - part)) + 2 * 16 * int(factor)
        assert np.all(np.abs(hourly[1] - factor * hourly[0]) <= allowed), service
    assert np.mean(scaled.service) == pytest.approx(np.mean(trace.service), abs=0.01)
    assert np.mean(scaled.prompt_tokens) == pytest.approx(np.mean(trace.prompt_tokens), rel=0.02)


def test_a_job_that_starts_at_nine_still_starts_at_nine() -> None:
    trace = two_service_day()
    recorded_s = trace.of_service(Service.API).arrival_s
    made_s = with_rate_factor(trace, 5.0, np.random.default_rng(2)).of_service(Service.API).arrival_s
    # 16 requests of the job take 16 / 5000 of its 1,200 s, which is 3.8 s.
    assert made_s.min() > recorded_s.min() - 10
    assert made_s.max() < recorded_s.max() + 10


def test_copies_in_a_quiet_hour_do_not_come_in_flocks() -> None:
    trace = make_trace("quiet", np.arange(0, 36_000, 100.0), [5] * 360, [5] * 360, duration_s=36_000.0)
    made = with_rate_factor(trace, 10.0, np.random.default_rng(3))
    # Ten at once every 100 s would give a count of 10 in every fifth window of 20 s, so a Fano factor of 8.
    assert fano(made.arrival_s, 20.0, 36_000.0) < 1.5


def test_a_thinned_poisson_stream_is_a_poisson_stream() -> None:
    trace = poisson_trace(10.0, 20_000.0)
    thinned = with_rate_factor(trace, 0.3, np.random.default_rng(4))
    assert fano(thinned.arrival_s, 10.0, 20_000.0) == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("factor", [0.5, 1.5, 2.0, 2.25, 4.0])
@pytest.mark.parametrize("turns", [1, 5])
def test_in_long_windows_the_fano_factor_is_as_documented(factor: float, turns: int) -> None:
    """Sessions of `turns` requests at once, at a rate that steps between 2 and 10 sessions per second every 100 s."""
    rng = np.random.default_rng(5)
    duration_s, window_s = 50_000.0, 100.0
    counts = rng.poisson(np.tile([200, 1000], 250))
    starts = np.sort(np.concatenate([rng.uniform(i * 100, i * 100 + 99, n) for i, n in enumerate(counts)]))
    arrivals = np.repeat(starts, turns)
    ones = np.ones(len(arrivals), int)
    trace = make_trace(
        "steps", arrivals, ones, ones, duration_s=duration_s, session=np.repeat(np.arange(len(starts)), turns)
    )
    recorded = fano(arrivals, window_s, duration_s)
    part = factor % 1
    expected = factor * recorded + part * (1 - part) * turns / factor
    made = with_rate_factor(trace, factor, np.random.default_rng(6))
    assert fano(made.arrival_s, window_s, duration_s) == pytest.approx(expected, rel=0.02)


def test_copies_look_independent_in_short_windows_and_alike_in_long_ones() -> None:
    trace = poisson_trace(10.0, 20_000.0)
    made = with_rate_factor(trace, 4.0, np.random.default_rng(7))
    # A move is up to the 1.6 s that 16 requests take.
    assert fano(made.arrival_s, 0.05, 20_000.0) == pytest.approx(1.0, abs=0.15)
    assert fano(made.arrival_s, 100.0, 20_000.0) == pytest.approx(4 * fano(trace.arrival_s, 100.0, 20_000.0), rel=0.1)


def test_a_real_trace_keeps_its_minutes() -> None:
    if not AZURE.exists():
        pytest.skip(f"needs the Azure 2023 conversation trace at {AZURE}")
    trace = read_trace(AZURE)
    made = with_rate_factor(trace, 3.0, np.random.default_rng(8))
    minutes = int(trace.duration_s // 60)
    counts = [np.bincount((one.arrival_s // 60).astype(int))[:minutes] for one in (trace, made)]
    assert len(made) == 3 * 19_366
    assert np.corrcoef(counts[0], counts[1])[0, 1] > 0.99


def test_an_empty_trace_stays_empty() -> None:
    trace = make_trace("none", [], [], [], duration_s=5.0)
    assert len(with_rate_factor(trace, 3.0, np.random.default_rng(0))) == 0


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_a_factor_that_is_no_positive_number_is_refused(factor: float) -> None:
    with pytest.raises(InputError, match=r"rate_factor is .* want a positive number"):
        with_rate_factor(two_service_day(), factor, np.random.default_rng(0))


@pytest.mark.parametrize("jitter_s", [-1.0, float("nan"), float("inf")])
def test_a_jitter_that_is_no_time_is_refused(jitter_s: float) -> None:
    with pytest.raises(InputError, match="jitter_s is"):
        with_rate_factor(two_service_day(), 2.0, np.random.default_rng(0), jitter_s)


def test_a_factor_that_would_fill_the_memory_is_refused() -> None:
    with pytest.raises(InputError, match="at most 200000000 are possible"):
        with_rate_factor(two_service_day(), 1e9, np.random.default_rng(0))
