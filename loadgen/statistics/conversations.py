"""Conversations: turns, pauses between them, and how the prompt grows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadgen.statistics.spread import Histogram, log_histogram, quantiles
from loadgen.trace import Trace

_MOST_TURNS = 50
_LEAST_SESSIONS = 10


@dataclass(frozen=True, slots=True, eq=False)
class Conversations:
    """Sessions, of a trace that knows them. A turn is a request; turns of a session are in order of arrival.

    Attributes:
        sessions: how many.
        multi_turn_fraction: share of them with two turns or more.
        mean_turns: requests per session.
        turn_quantiles: turns per session by level ('p50').
        turns, sessions_by_turns: i64[k], i64[k]: how many sessions have so many turns, those numbers that occur.
        interval_quantiles_s: from one turn's arrival to the next one's, by level.
        intervals_s: the same as a histogram in seconds; intervals of 0 s are left out.
        prompt_change_tokens: median change of the prompt from a turn to the next one.
        growing_fraction: share of next turns with a longer prompt.
        mean_prompt_by_turn: f64[t], mean prompt tokens of the 1st, 2nd, ... turn, as far as ten sessions reach (one
            entry at least), at most 50.
    """

    sessions: int
    multi_turn_fraction: float
    mean_turns: float
    turn_quantiles: dict[str, float]
    turns: NDArray[np.int64]
    sessions_by_turns: NDArray[np.int64]
    interval_quantiles_s: dict[str, float]
    intervals_s: Histogram
    prompt_change_tokens: float
    growing_fraction: float
    mean_prompt_by_turn: NDArray[np.float64]


def describe_conversations(trace: Trace) -> Conversations | None:
    """Describe the sessions; None where none has two requests."""
    if bool(np.all(np.diff(trace.session) > 0)):  # numbered one by one
        return None
    order = np.argsort(trace.session, kind="stable")
    session, prompt_tokens = trace.session[order], trace.prompt_tokens[order]
    is_next = session[1:] == session[:-1]
    if not is_next.any():
        return None
    firsts = np.concatenate([[0], np.flatnonzero(~is_next) + 1])
    turns_per_session = np.diff(firsts, append=len(session))
    turns, sessions_by_turns = np.unique(turns_per_session, return_counts=True)
    interval_s = np.diff(trace.arrival_s[order])[is_next]
    change_tokens = np.diff(prompt_tokens.astype(np.int64))[is_next]
    return Conversations(
        sessions=len(firsts),
        multi_turn_fraction=float(np.mean(turns_per_session > 1)),
        mean_turns=float(turns_per_session.mean()),
        turn_quantiles=quantiles(turns_per_session),
        turns=turns.astype(np.int64),
        sessions_by_turns=sessions_by_turns.astype(np.int64),
        interval_quantiles_s=quantiles(interval_s),
        intervals_s=log_histogram(interval_s),
        prompt_change_tokens=float(np.median(change_tokens)),
        growing_fraction=float(np.mean(change_tokens > 0)),
        mean_prompt_by_turn=_mean_by_turn(prompt_tokens, firsts, turns_per_session),
    )


def _mean_by_turn(
    prompt_tokens: NDArray[np.int32], firsts: NDArray[np.int64], turns_per_session: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The mean prompt of the 1st, 2nd, ... turn, for the turns that enough sessions have."""
    turn = np.arange(len(prompt_tokens)) - np.repeat(firsts, turns_per_session)
    early = turn < _MOST_TURNS
    sessions = np.bincount(turn[early])
    means: NDArray[np.float64] = np.bincount(turn[early], prompt_tokens[early]) / sessions
    return means[: max(1, int(np.count_nonzero(sessions >= _LEAST_SESSIONS)))]
