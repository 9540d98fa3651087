"""How many tokens a request has: distributions over whole numbers between two bounds."""

from itertools import pairwise
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator
from scipy.optimize import brentq
from scipy.special import ndtr

from loadgen.strict_config import NonNegative, Positive, StrictModel

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
    value: TokenCount


class Histogram(StrictModel):
    """Any shape: share i of the requests has a length from edges[i] to below edges[i + 1], each alike likely.

    The shares may be counts as well: what matters is their size relative to each other.
    """

    distribution: Literal["histogram"]
    edges: Annotated[tuple[TokenCount, ...], Field(min_length=2)]
    shares: Annotated[tuple[NonNegative, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        if any(later <= earlier for earlier, later in pairwise(self.edges)):
            raise ValueError(f"edges are {list(self.edges)}; want them ascending")
        if len(self.shares) != len(self.edges) - 1:
            raise ValueError(f"{len(self.edges)} edges bound {len(self.edges) - 1} shares, got {len(self.shares)}")
        if not sum(self.shares) > 0:
            raise ValueError("shares are all 0; want at least one above 0")
        return self


Family = Annotated[Zipf | Lognormal | Geometric | Constant | Histogram, Field(discriminator="distribution")]


class Part(StrictModel):
    """One of the kinds of lengths that a mixture is of, and how often it is drawn relative to the others."""

    share: Positive
    lengths: Family


class Mixture(StrictModel):
    """Several kinds of lengths, such as short and long answers."""

    distribution: Literal["mixture"]
    parts: Annotated[tuple[Part, ...], Field(min_length=1)]


class LeftToEngine(StrictModel):
    """The engine ends the answer, as late as after `limit` tokens."""

    distribution: Literal["left_to_engine"]
    limit: TokenCount


Lengths = Annotated[Zipf | Lognormal | Geometric | Constant | Histogram | Mixture, Field(discriminator="distribution")]
OutputLengths = Annotated[
    Zipf | Lognormal | Geometric | Constant | Histogram | Mixture | LeftToEngine, Field(discriminator="distribution")
]


def length_probabilities(lengths: Lengths) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """The possible lengths in tokens (ascending) and the probability of each."""
    if isinstance(lengths, Mixture):
        return _mixed_probabilities(lengths)
    match lengths:
        case Constant():
            return np.array([lengths.value], dtype=np.int32), np.ones(1)
        case Zipf():
            tokens = np.arange(lengths.min, lengths.max + 1, lengths.step, dtype=np.int32)
            weights = (tokens / lengths.min) ** -lengths.theta  # relative to the first: no underflow
        case Lognormal():
            tokens = np.arange(lengths.min, lengths.max + 1, dtype=np.int32)
            weights = _lognormal_weights(lengths, tokens)
        case Geometric():
            tokens = np.arange(lengths.min, lengths.max + 1, dtype=np.int32)
            weights = np.exp(-_geometric_decay(lengths) * (tokens - lengths.min))
        case Histogram():
            tokens = np.arange(lengths.edges[0], lengths.edges[-1], dtype=np.int32)
            widths = np.diff(lengths.edges)
            weights = np.repeat(np.array(lengths.shares) / widths, widths)
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


def draw_outputs(lengths: OutputLengths, count: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """Draw `count` lengths of answers in tokens, i32[count]; the limit where the engine ends them."""
    if isinstance(lengths, LeftToEngine):
        return np.full(count, lengths.limit, dtype=np.int32)
    return draw_lengths(lengths, count, rng)


def _mixed_probabilities(mixture: Mixture) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    parts = [length_probabilities(part.lengths) for part in mixture.parts]
    tokens, place = np.unique(np.concatenate([tokens for tokens, _ in parts]), return_inverse=True)
    shares = np.array([part.share for part in mixture.parts])
    weights = np.concatenate([share * probability for share, (_, probability) in zip(shares, parts, strict=True)])
    return tokens, np.bincount(place, weights) / shares.sum()


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
