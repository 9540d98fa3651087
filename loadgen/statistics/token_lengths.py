"""How long prompts and responses are, and whether long prompts get long responses."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

from loadgen.statistics.spread import Histogram, quantiles
from loadgen.zipf_fit import fit_zipf

_HISTOGRAM_BINS = 40
_RELATION_BINS = 24
_TABLE_TOKENS = 1 << 22  # up to here lengths are counted in a table, beyond by sorting
_LEAST_REQUESTS = 30  # fewer lengths say nothing about humps
_LEAST_PROMINENCE = 0.1
_GRID = 0.02  # step of ln(length) at which the density is worked out
_LEAST_BANDWIDTH = 0.15  # lengths within 15 % of each other count as alike


@dataclass(frozen=True, slots=True)
class ZipfDescription:
    """The Zipf distribution that is likeliest to have given the lengths, P(length) ~ length ** -theta.

    Attributes:
        theta: the exponent.
        low_tokens, high_tokens: it runs over every length between the shortest and the longest seen.
        is_clipped: what was drawn longer than `high_tokens` was cut to it (a heap there is clearly likelier so).
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


@dataclass(frozen=True, slots=True, eq=False)
class _Counted:
    """Lengths by value: lengths i64[k] ascending, counts i64[k] above 0, and the place of each request's, i64[n]."""

    lengths: NDArray[np.int64]
    counts: NDArray[np.int64]
    places: NDArray[np.int64]


def describe_lengths(tokens: NDArray[np.int32]) -> LengthDescription:
    """Describe the lengths above 0."""
    counted = _count(tokens[tokens > 0])
    lengths, counts = counted.lengths, counted.counts
    modes, valley_depth = _find_modes(lengths, counts)
    return LengthDescription(
        requests=int(counts.sum()),
        mean_tokens=float(np.average(lengths, weights=counts)) if len(lengths) else None,
        quantiles=quantiles(lengths[counted.places]),
        zipf=_describe_zipf(lengths, counts),
        histogram=_histogram(lengths, counts, _HISTOGRAM_BINS),
        modes=modes,
        valley_depth=valley_depth,
        sarle_coefficient=_sarle_coefficient(lengths, counts),
    )


def relate_lengths(prompt_tokens: NDArray[np.int32], output_tokens: NDArray[np.int32]) -> LengthRelation:
    """Relate prompt to output lengths, of the requests that have both above 0."""
    has_both = (prompt_tokens > 0) & (output_tokens > 0)
    prompts, outputs = _count(prompt_tokens[has_both]), _count(output_tokens[has_both])
    prompt_edges = _edges(prompts.lengths, _RELATION_BINS)
    output_edges = _edges(outputs.lengths, _RELATION_BINS)
    columns = len(output_edges) - 1
    cell = _bins(prompts.lengths, prompt_edges)[prompts.places] * columns
    cell += _bins(outputs.lengths, output_edges)[outputs.places]
    return LengthRelation(
        requests=int(np.count_nonzero(has_both)),
        pearson_of_logs=_correlation(prompts, np.log(prompts.lengths), outputs, np.log(outputs.lengths)),
        spearman=_correlation(prompts, _ranks(prompts.counts), outputs, _ranks(outputs.counts)),
        prompt_edges=prompt_edges,
        output_edges=output_edges,
        counts=np.bincount(cell, minlength=(len(prompt_edges) - 1) * columns).reshape(-1, columns),
    )


def _count(tokens: NDArray[np.int32]) -> _Counted:
    """Count the lengths; a table where they are short, since sorting millions of them takes longer than the rest."""
    if tokens.max(initial=0) > _TABLE_TOKENS:
        values, sorted_places, counts = np.unique(tokens, return_inverse=True, return_counts=True)
        return _Counted(values.astype(np.int64), counts.astype(np.int64), sorted_places.astype(np.int64))
    table = np.bincount(tokens)
    lengths = np.flatnonzero(table)
    places = np.cumsum(table > 0) - 1
    return _Counted(lengths, table[lengths], places[tokens])


def _describe_zipf(lengths: NDArray[np.int64], counts: NDArray[np.int64]) -> ZipfDescription | None:
    fit = fit_zipf(lengths, counts)
    if fit is None:
        return None
    up_to = np.cumsum(counts) / counts.sum()
    below = up_to - counts / counts.sum()
    distance = np.maximum(np.abs(up_to - fit.cumulative(lengths)), np.abs(below - fit.cumulative(lengths - fit.step)))
    return ZipfDescription(fit.theta, fit.low, fit.high, fit.is_clipped, float(distance.max()))


def _edges(lengths: NDArray[np.int64], bins: int) -> NDArray[np.float64]:
    """Whole numbers, as even on a logarithmic axis as they can be, around all the lengths."""
    if len(lengths) == 0:
        return np.array([1.0, 2.0])
    low, high = lengths[0], lengths[-1] + 1
    return np.unique(np.rint(np.geomspace(low, high, bins + 1)))


def _bins(lengths: NDArray[np.int64], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.searchsorted(edges, lengths, side="right") - 1


def _histogram(lengths: NDArray[np.int64], counts: NDArray[np.int64], bins: int) -> Histogram:
    edges = _edges(lengths, bins)
    found = np.bincount(_bins(lengths, edges), counts, minlength=len(edges) - 1)
    return Histogram(edges=edges, counts=found.astype(np.int64))


def _ranks(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """The mean rank of the requests of each length, f64[k]."""
    ranks: NDArray[np.float64] = np.cumsum(counts) - (counts - 1) / 2
    return ranks


def _correlation(
    prompts: _Counted, prompt_values: NDArray[np.float64], outputs: _Counted, output_values: NDArray[np.float64]
) -> float | None:
    """Pearson's correlation of what each length stands for; None = either does not vary."""
    if len(prompts.lengths) < 2 or len(outputs.lengths) < 2:
        return None
    left, right = (
        (values - np.average(values, weights=counted.counts), counted)
        for values, counted in ((prompt_values, prompts), (output_values, outputs))
    )
    spreads = [float(counted.counts @ np.square(values)) for values, counted in (left, right)]
    together = float(left[0][left[1].places] @ right[0][right[1].places])
    return together / float(np.sqrt(spreads[0] * spreads[1]))


def _sarle_coefficient(lengths: NDArray[np.int64], counts: NDArray[np.int64]) -> float | None:
    """Sarle's coefficient of the logarithms.

    Source: SAS/STAT, the CLUSTER procedure's bimodality coefficient, for many values.
    """
    if len(lengths) < 2:
        return None
    logs = np.log(lengths)
    logs = logs - np.average(logs, weights=counts)
    second, third, fourth = (float(np.average(logs**power, weights=counts)) for power in (2, 3, 4))
    return (third**2 / second**3 + 1) / (fourth / second**2)


def _find_modes(lengths: NDArray[np.int64], counts: NDArray[np.int64]) -> tuple[tuple[LengthMode, ...], float | None]:
    """The humps of the density of ln(length), and the depth of the valley between the two most prominent.

    Source: kernel density and its rule-of-thumb bandwidth, Silverman, "Density Estimation" (1986), section 3.4.2, here
    at least 0.15, so that a heap on one length is no hump of its own next to its neighbours.
    """
    if counts.sum() < _LEAST_REQUESTS:
        return (), None
    log_tokens, density = _log_density(lengths, counts)
    places, found = find_peaks(density, prominence=_LEAST_PROMINENCE * density.max())
    highest = float(density.max())
    modes = tuple(
        LengthMode(float(np.exp(log_tokens[place])), float(density[place]) / highest, float(prominence) / highest)
        for place, prominence in zip(places, found["prominences"], strict=True)
    )
    if len(modes) < 2:
        return modes, None
    first, second = np.sort(places[np.argsort(-found["prominences"], kind="stable")[:2]])
    valley = float(density[first : second + 1].min())
    return modes, 1 - valley / float(min(density[first], density[second]))


def _log_density(
    lengths: NDArray[np.int64], counts: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """ln(length) on a grid and the density there, each length spread over the half token on either side of it."""
    logs, requests = np.log(lengths), counts.sum()
    up_to = np.cumsum(counts)
    low, high = np.interp([0.25 * requests, 0.75 * requests], up_to, logs)
    deviation = float(np.sqrt(np.average((logs - np.average(logs, weights=counts)) ** 2, weights=counts)))
    width = min(deviation, (high - low) / 1.34) or deviation
    bandwidth = max(_LEAST_BANDWIDTH, 0.9 * width * float(requests) ** -0.2)
    margin = 5 * bandwidth
    edges = np.arange(logs[0] - np.log(2) - margin, logs[-1] + 1 / lengths[-1] + margin, _GRID)
    sides = np.stack([lengths - 0.5, lengths + 0.5], axis=1).ravel()
    shares = np.stack([up_to - counts, up_to], axis=1).ravel()
    density = gaussian_filter1d(np.diff(np.interp(np.exp(edges), sides, shares)), bandwidth / _GRID, mode="constant")
    return (edges[1:] + edges[:-1]) / 2, density
