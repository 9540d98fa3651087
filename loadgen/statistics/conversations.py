"""Conversations: turns, pauses between them, and how the prompt grows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadgen.statistics.spread import Histogram


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
