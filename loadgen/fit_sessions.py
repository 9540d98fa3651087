"""Conversations of a trace that knows them: turns, pauses, and whether prompts hold the history."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadgen.arrivals.piecewise import Floats
from loadgen.fit_lengths import fit_lengths, rounded
from loadgen.sessions import ConstantPause, LognormalPause, Pause, Sessions
from loadgen.trace import Trace

_GROWING_FRACTION = 0.8  # of the turns that must have room for the history before them, to call it one
_LONGEST_PROMPT = 1_000_000


@dataclass(frozen=True, slots=True, eq=False)
class FittedSessions:
    """The sessions of a trace as a workload model has them.

    Attributes:
        sessions: turns, pauses, history.
        opened_s: f64[k], sorted: when each conversation begins.
        new_tokens: i64[n], what each turn adds to the prompt.
    """

    sessions: Sessions
    opened_s: Floats
    new_tokens: NDArray[np.int64]


def fit_sessions(trace: Trace) -> FittedSessions | None:
    """Fit the conversations of a trace; None where no conversation has two requests."""
    order = np.argsort(trace.session, kind="stable")
    session, arrival_s = trace.session[order], trace.arrival_s[order]
    prompt_tokens, output_tokens = (
        tokens[order].astype(np.int64) for tokens in (trace.prompt_tokens, trace.output_tokens)
    )
    is_next = session[1:] == session[:-1]
    if not is_next.any():
        return None
    first = np.concatenate([[True], ~is_next])
    added = np.diff(prompt_tokens) - output_tokens[:-1]
    with_history = bool(np.mean(added[is_next] >= 0) >= _GROWING_FRACTION)
    new_tokens = prompt_tokens.copy()
    if with_history:
        new_tokens[1:][is_next] = np.maximum(added[is_next], 1)
    answer_s, answer_s_per_token = _answer_times(trace, order)
    pauses_s = (np.diff(arrival_s) - answer_s[:-1])[is_next]
    longest = min(int(prompt_tokens.max()), _LONGEST_PROMPT)
    sessions = Sessions(
        turns=fit_lengths(np.diff(np.append(np.flatnonzero(first), len(session)))),
        think_s=_fit_pauses(pauses_s),
        answer_s_per_token=rounded(answer_s_per_token),
        with_history=with_history,
        max_prompt_tokens=max(longest, 1) if with_history else None,
    )
    return FittedSessions(sessions, np.sort(arrival_s[first]), new_tokens)


def _answer_times(trace: Trace, order: NDArray[np.integer]) -> tuple[Floats, float]:
    """How long each answer took (s), in this order, and seconds per token; 0 where the trace does not say."""
    if trace.elapsed_s is None:
        return np.zeros(len(trace)), 0.0
    elapsed_s, output_tokens = trace.elapsed_s[order], trace.output_tokens[order]
    known = ~np.isnan(elapsed_s) & (output_tokens > 0)
    if not known.any():
        return np.zeros(len(trace)), 0.0
    return np.nan_to_num(elapsed_s), float(elapsed_s[known].sum() / output_tokens[known].sum())


def _fit_pauses(pauses_s: Floats) -> Pause:
    """Lognormal pauses, of those above 0; a constant where there are not two different ones."""
    positive_s = pauses_s[pauses_s > 0]
    if len(positive_s) < 2 or np.ptp(positive_s) == 0:
        return ConstantPause(distribution="constant", value=rounded(float(positive_s[0])) if len(positive_s) else 0.0)
    logs = np.log(positive_s)
    return LognormalPause(
        distribution="lognormal",
        median=rounded(float(np.exp(logs.mean()))),
        sigma=rounded(float(logs.std())),
        max=rounded(float(positive_s.max())),
    )
