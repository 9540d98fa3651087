"""Conversations: one request after the other, each with the text of those before it."""

from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy.special import ndtr, ndtri

from loadgen.lengths import Lengths, TokenCount, draw_lengths
from loadgen.strict_config import NonNegative, Positive, StrictModel

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class ConstantPause(StrictModel):
    """The same pause before every turn."""

    distribution: Literal["constant"]
    value: NonNegative


class LognormalPause(StrictModel):
    """exp(Normal(log median, sigma)) seconds, cut off at `max` (no heap there)."""

    distribution: Literal["lognormal"]
    median: Positive
    sigma: Annotated[float, Field(gt=0, le=10)]
    max: Positive

    @model_validator(mode="after")
    def _check_mass(self) -> Self:
        if not ndtr(np.log(self.max / self.median) / self.sigma) > 1e-6:
            raise ValueError(f"a median of {self.median:g} leaves nothing up to {self.max:g}")
        return self


Pause = Annotated[ConstantPause | LognormalPause, Field(discriminator="distribution")]


class Sessions(StrictModel):
    """Each arrival opens a conversation; its next turn comes when the answer has been given and thought about.

    A trace is fixed before it is played, so the time of an answer is an estimate: so many seconds for each of its
    tokens (of its limit, where the engine ends it). No conversation is going on when the stream starts; turns that
    would come after its end are left out.

    Attributes:
        turns: requests of a conversation, a distribution over whole numbers like a length.
        think_s: pause between an answer and the next turn, in seconds.
        answer_s_per_token: seconds that an answer takes per token; 0 = `think_s` counts from request to request.
        with_history: a prompt holds all earlier prompts and answers of its conversation before its own text.
        max_prompt_tokens: the longest prompt; of a longer history the oldest part is left out.
    """

    turns: Lengths
    think_s: Pause
    answer_s_per_token: NonNegative = 0.0
    with_history: bool = True
    max_prompt_tokens: TokenCount | None = None

    @model_validator(mode="after")
    def _check_history(self) -> Self:
        if self.with_history and self.max_prompt_tokens is None:
            raise ValueError("give max_prompt_tokens, the most that the model reads, or set with_history to false")
        return self


def draw_turns(sessions: Sessions, count: int, rng: np.random.Generator) -> Integers:
    """Draw how many turns each of `count` conversations has: the conversation's number for each turn, in order."""
    return np.repeat(np.arange(count), draw_lengths(sessions.turns, count, rng))


def draw_turn_arrivals(
    sessions: Sessions, start_s: Floats, session: Integers, output_tokens: NDArray[np.int32], rng: np.random.Generator
) -> Floats:
    """Draw when each turn arrives (s), in the order of `session`.

    Args:
        sessions: gives the times to answer and to think.
        start_s: when each conversation opens.
        session: the conversation of each turn, ascending.
        output_tokens: of each turn.
        rng: the source of the pauses.
    """
    pause_s: Floats = output_tokens * sessions.answer_s_per_token + _draw_pauses(sessions.think_s, len(session), rng)
    arrival_s: Floats = start_s[session] + _before_turn(session, pause_s)
    return arrival_s


def add_history(
    session: Integers, prompt_tokens: NDArray[np.int32], output_tokens: NDArray[np.int32], max_prompt_tokens: int
) -> NDArray[np.int32]:
    """The prompt of each turn with the prompts and answers before it, cut to the longest prompt."""
    history = _before_turn(session, prompt_tokens.astype(np.int64) + output_tokens)
    prompts: NDArray[np.int32] = np.minimum(prompt_tokens + history, max_prompt_tokens).astype(np.int32)
    return prompts


def _draw_pauses(pause: Pause, count: int, rng: np.random.Generator) -> Floats:
    match pause:
        case ConstantPause():
            return np.full(count, pause.value)
        case LognormalPause():
            most = ndtr(np.log(pause.max / pause.median) / pause.sigma)
            # 1 - [0, 1) is never 0, whose logarithm of a pause would be minus infinity.
            pauses: Floats = pause.median * np.exp(pause.sigma * ndtri(most * (1 - rng.random(count))))
            return pauses


def _before_turn(session: Integers, values: NDArray[Any]) -> NDArray[Any]:
    """The sum of the values of the conversation's earlier turns."""
    before = np.concatenate([np.zeros(1, dtype=values.dtype), np.cumsum(values)[:-1]])[: len(values)]
    first = np.flatnonzero(np.diff(session, prepend=-1))
    earlier: NDArray[Any] = before - np.repeat(before[first], np.diff(np.append(first, len(session))))
    return earlier
