"""How long prompts and responses are, and whether long prompts get long responses."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadgen.statistics.spread import Histogram


@dataclass(frozen=True, slots=True)
class ZipfDescription:
    """The Zipf distribution that is likeliest to have given the lengths, P(length) ~ length ** -theta.

    Attributes:
        theta: the exponent.
        low_tokens, high_tokens: it runs over every length between the shortest and the longest seen.
        is_clipped: what was drawn longer than `high_tokens` was cut to it (a heap there is likelier so).
        ks_distance: the largest distance between the distribution functions, measured and fitted: 0 = the lengths are
            Zipf, above 0.1 they clearly are not.
    """

    theta: float
    low_tokens: int
    high_tokens: int
    is_clipped: bool
    ks_distance: float


@dataclass(frozen=True, slots=True)
class LengthMode:
    """A hump of the distribution of the logarithm of the length.

    Attributes:
        tokens: the length at its top.
        height: relative to the highest hump.
        prominence: how far one must go down from it on the way to a higher hump, relative to the highest hump; 1 for
            that one.
    """

    tokens: float
    height: float
    prominence: float


@dataclass(frozen=True, slots=True, eq=False)
class LengthDescription:
    """Lengths in tokens of one kind, those above 0 only.

    Attributes:
        requests: how many lengths; 0 = the rest is None or empty.
        mean_tokens: None = none.
        quantiles: tokens by level ('p05', 'p25', 'p50', 'p75', 'p95', 'p99'); empty = none.
        zipf: None = all alike.
        histogram: bins of equal width on a logarithmic axis, as far as whole tokens allow.
        modes: humps with a prominence of 0.1 or more, by length. Two or more = bimodal.
        valley_depth: 1 - (lowest density between the two most prominent humps) / (density of the lower of them): 0 =
            as good as one hump, 1 = nothing in between; None = fewer than two humps.
        sarle_coefficient: (skewness^2 + 1) / kurtosis of the logarithms: 5/9 for an even spread, more hints at two
            humps (or at a skewed one), 1 for two points; None = all alike.
    """

    requests: int
    mean_tokens: float | None
    quantiles: dict[str, float]
    zipf: ZipfDescription | None
    histogram: Histogram
    modes: tuple[LengthMode, ...]
    valley_depth: float | None
    sarle_coefficient: float | None


@dataclass(frozen=True, slots=True, eq=False)
class LengthRelation:
    """Prompt against response length, over the requests that have both above 0.

    Attributes:
        requests: how many.
        pearson_of_logs: correlation of the logarithms; None = either does not vary.
        spearman: rank correlation; None = either does not vary.
        prompt_edges, output_edges: f64[p + 1], f64[q + 1], bins of tokens, half-open.
        counts: i64[p, q], requests by prompt and output bin.
    """

    requests: int
    pearson_of_logs: float | None
    spearman: float | None
    prompt_edges: NDArray[np.float64]
    output_edges: NDArray[np.float64]
    counts: NDArray[np.int64]
