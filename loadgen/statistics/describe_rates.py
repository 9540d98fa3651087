"""What a rate series is like: its requests are counted, not known one by one, so there are no tokens and no gaps."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadgen.rate_series import RateSeries
from loadgen.statistics.periodicity import Periodicity, periodicity_of
from loadgen.statistics.plain_values import json_text, plain
from loadgen.statistics.timeline import HOUR_S
from loadgen.trace import SERVICE_LABELS

_BUSIEST_FRACTION = 0.05
_LEAST_BINS = 20  # of fewer bins the busiest 5 % are none
_ALL = "all"


@dataclass(frozen=True, slots=True, eq=False)
class RateDescription:
    """The counts under one label, or all together. What is not recorded is None.

    Attributes:
        requests: in all bins that were recorded, rounded where the source gives rates.
        duration_s: of the series, missing bins included.
        missing_bins: not recorded; they are left out of everything below.
        peak_rate_per_s: in the busiest bin.
        peak_to_mean: busiest bin / mean bin.
        busiest_bins_fraction: share of the requests in the busiest 5 % of the bins (their number is rounded); None =
            fewer than 20 bins, or no request.
        silent_bins_fraction: share of the bins without a request.
        periodicity: of the requests per hour; None where bins are missing or do not make up hours.
    """

    requests: int
    duration_s: float
    prompt_tokens: None
    output_tokens: None
    failures: None
    missing_bins: int
    mean_rate_per_s: float
    peak_rate_per_s: float
    peak_to_mean: float | None
    busiest_bins_fraction: float | None
    silent_bins_fraction: float
    periodicity: Periodicity | None


@dataclass(frozen=True, slots=True, eq=False)
class RateSeriesDescription:
    """A rate series in numbers, in all and by label (none where there is but one)."""

    name: str
    bin_s: float
    all: RateDescription
    labels: dict[str, RateDescription]

    def as_json(self) -> dict[str, Any]:
        """As plain values: the fields of `all` at the top, those of each label under `services` or `labels`."""
        parts = "services" if set(self.labels) <= set(SERVICE_LABELS) else "labels"
        return {"name": self.name, "bin_s": self.bin_s, **plain(self.all), parts: plain(self.labels)}

    def json_text(self) -> str:
        """`as_json` as text: a line for each value, a list being one value."""
        return json_text(self.as_json())


def describe_rates(series: RateSeries) -> RateSeriesDescription:
    """Measure a rate series; where it has no label 'all', all is the sum of its labels."""
    named = [label for label in series.labels if label != _ALL]
    if _ALL in series.labels:
        total = series.of(_ALL)
    else:
        total = np.where(np.isnan(series.requests).all(axis=0), np.nan, np.nansum(series.requests, axis=0))
    return RateSeriesDescription(
        name=series.name,
        bin_s=series.bin_s,
        all=_describe(total, series.bin_s),
        labels={label: _describe(series.of(label), series.bin_s) for label in named} if len(named) > 1 else {},
    )


def _describe(requests: NDArray[np.float64], bin_s: float) -> RateDescription:
    recorded = requests[~np.isnan(requests)]
    total, mean = float(recorded.sum()), float(recorded.mean()) if len(recorded) else 0.0
    busiest = np.sort(recorded)[len(recorded) - round(_BUSIEST_FRACTION * len(recorded)) :]
    has_busiest = len(recorded) >= _LEAST_BINS and total > 0
    return RateDescription(
        requests=round(total),
        duration_s=len(requests) * bin_s,
        prompt_tokens=None,
        output_tokens=None,
        failures=None,
        missing_bins=len(requests) - len(recorded),
        mean_rate_per_s=mean / bin_s,
        peak_rate_per_s=float(recorded.max(initial=0.0)) / bin_s,
        peak_to_mean=float(recorded.max()) / mean if mean > 0 else None,
        busiest_bins_fraction=float(busiest.sum()) / total if has_busiest else None,
        silent_bins_fraction=float(np.mean(recorded == 0)) if len(recorded) else 0.0,
        periodicity=_hourly_periodicity(requests, bin_s),
    )


def _hourly_periodicity(requests: NDArray[np.float64], bin_s: float) -> Periodicity | None:
    bins_per_hour = round(HOUR_S / bin_s)
    if np.isnan(requests).any() or bins_per_hour < 1 or abs(bins_per_hour * bin_s - HOUR_S) > 1e-6:
        return None
    whole = len(requests) // bins_per_hour * bins_per_hour
    return periodicity_of(requests[:whole].reshape(-1, bins_per_hour).sum(axis=1))
