"""From a trace to counts per bin: what forecasters learn and what a backtest replays.

Bins are half-open, [i * bin_s, (i + 1) * bin_s), and only complete bins count: a bin that the recording cuts short
would read as a fall in traffic that never happened. Live, too, a bin is handed on when it is over.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadgen.errors import InputError
from loadgen.trace import Service, Trace

# A recording of 0.3 s holds three bins of 0.1 s, though 0.3 / 0.1 is 2.9999999999999996.
_ROUNDING = 1e-9

# A million seconds in bins of 0.1 s; beyond it a wrong unit is likelier than a wish.
_MOST_BINS = 10_000_000


@dataclass(frozen=True, slots=True, eq=False)
class ServiceCounts:
    """What arrived for one service in each bin; arrays f64[n], bin i is [i * bin_s, (i + 1) * bin_s).

    Attributes:
        requests: requests that arrived.
        prompt_tokens: tokens in their prompts.
        output_tokens: tokens of their answers, counted in the bin of the arrival. A live system knows them only when
            the answer is complete, so a forecast of this series is told more than it would be live.
    """

    bin_s: float
    requests: NDArray[np.float64]
    prompt_tokens: NDArray[np.float64]
    output_tokens: NDArray[np.float64]

    def __len__(self) -> int:
        """The number of bins."""
        return len(self.requests)

    def rebinned(self, factor: int) -> "ServiceCounts":
        """The same counts in bins that are `factor` times as long; see `rebin`."""
        return ServiceCounts(
            bin_s=self.bin_s * factor,
            requests=rebin(self.requests, factor),
            prompt_tokens=rebin(self.prompt_tokens, factor),
            output_tokens=rebin(self.output_tokens, factor),
        )


def count_arrivals(trace: Trace, bin_s: float) -> dict[str, ServiceCounts]:
    """Count what arrived per bin, for every service, by its label ('conversation', 'api').

    A service without requests has zeros. Arrivals after the last complete bin are left out.

    Raises:
        InputError: bin_s is not a positive length, the trace is shorter than one bin, or the bins are absurdly many.
    """
    bins = complete_bins(trace, bin_s)
    edges_s = np.arange(bins + 1) * bin_s
    bin_of = np.searchsorted(edges_s, trace.arrival_s, side="right") - 1
    counts = {}
    for service in Service:
        taken = (trace.service == service) & (bin_of < bins)
        where = bin_of[taken]
        counts[service.label] = ServiceCounts(
            bin_s=bin_s,
            requests=np.bincount(where, minlength=bins).astype(np.float64),
            prompt_tokens=np.bincount(where, weights=trace.prompt_tokens[taken], minlength=bins).astype(np.float64),
            output_tokens=np.bincount(where, weights=trace.output_tokens[taken], minlength=bins).astype(np.float64),
        )
    return counts


def complete_bins(trace: Trace, bin_s: float) -> int:
    """How many bins of `bin_s` end within the trace's duration (errors: see `count_arrivals`)."""
    if not (bin_s > 0 and np.isfinite(bin_s)):
        raise InputError(f"bin_s must be a positive number of seconds, got {bin_s}")
    bins = np.floor(trace.duration_s / bin_s + _ROUNDING)
    if bins < 1:
        raise InputError(
            f"trace '{trace.name}': lasts {trace.duration_s:g} s, less than one bin of {bin_s:g} s; use shorter bins"
        )
    if bins > _MOST_BINS:
        raise InputError(
            f"trace '{trace.name}': {trace.duration_s:g} s make {bins:.0f} bins of {bin_s:g} s, "
            f"want at most {_MOST_BINS}; use longer bins"
        )
    return int(bins)


def rebin(counts: NDArray[np.float64], factor: int) -> NDArray[np.float64]:
    """Sum each run of `factor` bins into one, oldest first; an incomplete last run is dropped.

    f64[n] -> f64[n // factor].

    Raises:
        InputError: factor is below 1.
    """
    if factor < 1:
        raise InputError(f"factor must be a whole number >= 1, got {factor}")
    whole = len(counts) // factor
    summed: NDArray[np.float64] = counts[: whole * factor].reshape(whole, factor).sum(axis=1)
    return summed
