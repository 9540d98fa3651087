"""The same traffic from more or fewer users: sessions are dropped or copied, the shape over time stays."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from loadgen.errors import InputError
from loadgen.prefix import PrefixBlocks
from loadgen.trace import Trace

_NEIGHBOURS = 16  # the chance in a count of 16 is 25 % of it: a faster change of the rate can't be told from chance
_MAX_REQUESTS = 200_000_000


def with_rate_factor(trace: Trace, factor: float, rng: np.random.Generator, jitter_s: float = 300.0) -> Trace:
    """The traffic of `factor` times as many users: whole sessions, each independently of the others.

    With w = floor(factor), each session is there w times and, with the probability factor - w, once more. So a factor
    below 1 thins the trace and one above 1 superposes it with copies of itself. Sessions stay whole, since a dropped
    turn would leave a conversation whose prompt holds an answer that was never asked for. The first copy is the
    recording itself; every other moves each of its sessions (with the pauses inside) by an equally distributed time,
    at most as long as the 16 nearest requests of its service take to arrive and at most `jitter_s`: a burst's edge
    stays where it is, and in quiet hours the copies don't come in flocks. No session is moved out of the recording.

    What it does to burstiness: let F be the Fano factor (variance / mean) of the requests per window, p = factor - w,
    and m the mean, over requests, of how many requests of the same session are in its window (1 = no sessions). Where
    the windows are much longer than the moves,

        F' = factor * F + p * (1 - p) * m / factor

    so a thinned Poisson stream stays one (F' = 1), while w copies have F' = w * F: their counts vary, relative to the
    mean, exactly as the recorded ones do. Truly independent users would be smoother, 1 + w * (F - 1); so are the
    copies in windows much shorter than the moves.

    A copy's sessions have numbers of their own, and its prompts share their beginnings with each other as those of
    the recording do, but with those of no other copy: or each copy would find its prompts in the cache.

    Args:
        trace: the recording; at factor 1 it is returned as it is.
        factor: requests of the result / requests of the trace, on average.
        rng: draws which sessions are kept and how far copies move.
        jitter_s: the farthest that a session moves; 300 s leaves the hourly profile as it is.

    Raises:
        InputError: a number is out of its range, or the result would have more than 200 million requests.
    """
    _check(trace, factor, jitter_s)
    if factor == 1 or len(trace) == 0:
        return trace
    session = np.unique(trace.session, return_inverse=True)[1]
    whole = int(factor)
    once_more = rng.random(session.max() + 1) < factor - whole
    kept = np.flatnonzero(once_more[session])
    if whole == 0:
        return trace.take(kept)
    return _superposed(trace, session, [*[np.arange(len(trace))] * whole, kept], _moves(trace, session, jitter_s), rng)


def _check(trace: Trace, factor: float, jitter_s: float) -> None:
    """The factor is positive and leaves a trace that fits into memory; the jitter is not negative."""
    if not 0 < factor < np.inf:
        raise InputError(f"trace '{trace.name}': rate_factor is {factor:g}, want a positive number")
    if not 0 <= jitter_s < np.inf:
        raise InputError(f"trace '{trace.name}': jitter_s is {jitter_s:g}, want a number of seconds >= 0")
    if factor * len(trace) > _MAX_REQUESTS:
        raise InputError(
            f"trace '{trace.name}': rate_factor {factor:g} makes {factor * len(trace):.3g} requests of {len(trace)}, "
            f"at most {_MAX_REQUESTS} are possible; take a smaller factor or a part of the trace"
        )


def _moves(trace: Trace, session: NDArray[np.integer], jitter_s: float) -> tuple[NDArray[np.float64], ...]:
    """The earliest and the latest move of each session, f64[sessions] each: from a time <= 0 to a time >= 0."""
    reach_s = np.full(len(trace), jitter_s)
    for service in np.unique(trace.service):
        rows = np.flatnonzero(trace.service == service)
        arrival_s = trace.arrival_s[rows]
        span_s = arrival_s[_NEIGHBOURS:] - arrival_s[:-_NEIGHBOURS]
        beyond_s = np.full(min(_NEIGHBOURS, len(rows)), np.inf)
        # The shorter of ahead and behind: a burst's first request must not move into the quiet before it.
        nearest_s = np.minimum(np.concatenate([span_s, beyond_s]), np.concatenate([beyond_s, span_s]))
        reach_s[rows] = np.minimum(nearest_s, jitter_s)
    first = np.unique(session, return_index=True)[1]
    last = len(session) - 1 - np.unique(session[::-1], return_index=True)[1]
    earliest_s = np.maximum(-reach_s[first], -trace.arrival_s[first])
    latest_s = np.minimum(reach_s[first], np.nextafter(trace.duration_s, 0.0) - trace.arrival_s[last])
    return earliest_s, latest_s


def _superposed(
    trace: Trace,
    session: NDArray[np.integer],
    copies: list[NDArray[np.integer]],
    moves: tuple[NDArray[np.float64], ...],
    rng: np.random.Generator,
) -> Trace:
    """The rows of each copy in one trace, in order of time; the first copy is not moved."""
    sessions = len(moves[0])
    moved_s = [trace.arrival_s[rows] + rng.uniform(*moves)[session[rows]] for rows in copies[1:]]
    arrival_s = np.clip(np.concatenate([trace.arrival_s, *moved_s]), 0.0, np.nextafter(trace.duration_s, 0.0))
    order = np.argsort(arrival_s, kind="stable")
    rows = np.concatenate(copies)[order]
    copy = np.repeat(np.arange(len(copies)), [len(rows) for rows in copies])[order]
    taken = trace.take(rows)  # its times are out of order until they are replaced
    prefix = None if taken.prefix is None else _own_blocks(taken.prefix, copy)
    return replace(taken, arrival_s=arrival_s[order], session=session[rows] + sessions * copy, prefix=prefix)


def _own_blocks(prefix: PrefixBlocks, copy: NDArray[np.integer]) -> PrefixBlocks:
    """The same blocks numbered apart for each copy; `copy` has one value per prompt."""
    numbers, block = np.unique(prefix.block, return_inverse=True)
    copy_of_block = np.repeat(copy, np.diff(prefix.first))
    return PrefixBlocks(prefix.block_tokens, prefix.first, block + len(numbers) * copy_of_block)
