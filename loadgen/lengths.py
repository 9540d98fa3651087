"""How many tokens a request has: distributions over whole numbers between two bounds."""

from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator
from scipy.optimize import brentq
from scipy.special import ndtr

from loadgen.strict_config import Positive, StrictModel

TokenCount = Annotated[int, Field(ge=1, le=1_000_000)]


class _Bounded(StrictModel):
    min: TokenCount = 1
    max: TokenCount

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min is {self.min}, max is {self.max}; want min <= max")
        return self


class Zipf(_Bounded):
    """P(length) is proportional to length ** -theta, for lengths min, min + step, ... up to max.

    Source: Wang et al., "BurstGPT", arXiv 2401.17644: request lengths follow Zipf with theta = 1.1.
    """

    distribution: Literal["zipf"]
    theta: Positive
    step: PositiveInt = 1


class Lognormal(_Bounded):
    """exp(Normal(log median, sigma)), cut off at the bounds (no heap at them) and rounded."""

    distribution: Literal["lognormal"]
    median: Positive
    sigma: Annotated[float, Field(gt=0, le=10)]

    @model_validator(mode="after")
    def _check_mass(self) -> Self:
        if not _lognormal_weights(self, np.arange(self.min, self.max + 1)).sum() > 1e-6:
            raise ValueError(f"a median of {self.median:g} leaves nothing between {self.min} and {self.max}")
        return self


class Geometric(_Bounded):
    """Each further token is as likely as the one before; `mean` is the mean within the bounds."""

    distribution: Literal["geometric"]
    mean: Positive

    @model_validator(mode="after")
    def _check_mean(self) -> Self:
        if not self.min < self.mean < (self.min + self.max) / 2:
            raise ValueError(
                f"mean is {self.mean:g}; a geometric length from {self.min} to {self.max} has a mean above {self.min} "
                f"and below {(self.min + self.max) / 2:g}"
            )
        return self


class Constant(StrictModel):
    """The same length for every request."""

    distribution: Literal["constant"]
    tokens: TokenCount


Lengths = Annotated[Zipf | Lognormal | Geometric | Constant, Field(discriminator="distribution")]


def length_probabilities(lengths: Lengths) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """The possible lengths in tokens (ascending) and the probability of each."""
    match lengths:
        case Constant():
            return np.array([lengths.tokens], dtype=np.int32), np.ones(1)
        case Zipf():
            tokens = np.arange(lengths.min, lengths.max + 1, lengths.step, dtype=np.int32)
            weights = (tokens / lengths.min) ** -lengths.theta  # relative to the first: no underflow
        case Lognormal():
            tokens = np.arange(lengths.min, lengths.max + 1, dtype=np.int32)
            weights = _lognormal_weights(lengths, tokens)
        case Geometric():
            tokens = np.arange(lengths.min, lengths.max + 1, dtype=np.int32)
            weights = np.exp(-_geometric_decay(lengths) * (tokens - lengths.min))
    return tokens, weights / weights.sum()


def mean_length(lengths: Lengths) -> float:
    """The expected number of tokens."""
    tokens, probability = length_probabilities(lengths)
    return float(tokens @ probability)


def draw_lengths(lengths: Lengths, count: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """Draw `count` lengths in tokens, i32[count]."""
    tokens, probability = length_probabilities(lengths)
    cumulative = np.cumsum(probability)
    place = np.searchsorted(cumulative, rng.random(count), side="right")
    drawn: NDArray[np.int32] = tokens[np.minimum(place, len(tokens) - 1)]  # the sum may end a rounding below 1
    return drawn


def _lognormal_weights(lengths: Lognormal, tokens: NDArray[np.integer]) -> NDArray[np.float64]:
    """The probability that rounds to each length."""
    edges = np.append(tokens - 0.5, tokens[-1] + 0.5)
    weights: NDArray[np.float64] = np.diff(ndtr((np.log(edges) - np.log(lengths.median)) / lengths.sigma))
    return weights


def _geometric_decay(lengths: Geometric) -> float:
    """The s for which weights exp(-s k), k = 0..n-1, have the wanted mean.

    That mean is 1/(e^s - 1) - n/(e^(ns) - 1); with s = 0 all are equal, with growing s it falls to 0.
    """
    count = lengths.max - lengths.min + 1

    def surplus(decay: float) -> float:
        return float(1 / np.expm1(decay) - count / np.expm1(min(count * decay, 700.0)) - (lengths.mean - lengths.min))

    flattest = 1e-4 / count
    return flattest if surplus(flattest) <= 0 else float(brentq(surplus, flattest, 50.0))
