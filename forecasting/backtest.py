"""Rolling-origin backtest: a forecaster meets a recorded series bin by bin, as it would have live.

No look-ahead by construction: the forecaster is handed copies of the bins before the origin and nothing else, and the
outcomes are read from the series after its answer. Bin 0 of a forecast made at origin o, that is after o bins, is
scored against bin o of the series; a forecaster that knows the future therefore scores exactly 0.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecasting.counts import count_arrivals
from forecasting.gain import Gain, gain_over
from forecasting.interface import Forecaster
from forecasting.losses import coverage, pinball, pinball_losses, wape
from forecasting.registry import make_forecaster
from loadgen.errors import InputError
from loadgen.trace import SERVICE_LABELS, Trace

DEFAULT_LEVELS = (0.1, 0.5, 0.9, 0.95, 0.99)
REFERENCE_FORECASTER = "last-value"
QUANTITIES = ("requests", "prompt_tokens", "output_tokens")

# Absorbs rounding where a horizon is divided by a bin: 0.3 s of 0.1 s bins are 3, not 4.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class BacktestRow:
    """The score of one quantile at one lead, for tables.

    Attributes:
        lead_bins: 1 = the bin right after the last one observed; lead_s: the end of that bin, counted from the origin.
        pinball: mean pinball loss, in the unit of the series per bin.
        coverage: share of outcomes at or below the quantile.
        wape: of the median at this lead; None where level 0.5 was not forecast.
        origins: forecasts scored.
        gain: 1 - pinball / pinball of the reference, with a 95 % interval; None where there is no reference.
    """

    lead_bins: int
    lead_s: float
    level: float
    pinball: float
    coverage: float
    wape: float | None
    origins: int
    gain: Gain | None = None


@dataclass(frozen=True, slots=True, eq=False)
class BacktestResult:
    """What was forecast at every origin and what came.

    Attributes:
        bin_s: length of a bin.
        levels: f64[q].
        origins: i64[o], bins known at each origin.
        values: f64[o, q, h], the forecasts.
        actual: f64[o, h], the outcomes.
    """

    bin_s: float
    levels: NDArray[np.float64]
    origins: NDArray[np.int64]
    values: NDArray[np.float64]
    actual: NDArray[np.float64]

    def losses(self) -> NDArray[np.float64]:
        """The pinball loss of every forecast value, f64[o, q, h]."""
        return pinball_losses(self.actual[:, None, :], self.values, self.levels[None, :, None])

    def wape(self) -> tuple[float, ...] | None:
        """The WAPE of the median per lead; None where level 0.5 was not forecast."""
        at = np.flatnonzero(self.levels == 0.5)
        if len(at) == 0:
            return None
        median = self.values[:, at[0], :]
        return tuple(wape(self.actual[:, lead], median[:, lead]) for lead in range(self.actual.shape[1]))

    def rows(self, gains: Mapping[tuple[float, int], Gain] | None = None) -> tuple[BacktestRow, ...]:
        """One row per lead and level, lead by lead; `gains` (see `gain_over`) go by (level, lead_bins)."""
        of_median = self.wape()
        rows = []
        for lead in range(self.actual.shape[1]):
            actual = self.actual[:, lead]
            for index, level in enumerate(self.levels.tolist()):
                quantile = self.values[:, index, lead]
                rows.append(
                    BacktestRow(
                        lead_bins=lead + 1,
                        lead_s=(lead + 1) * self.bin_s,
                        level=level,
                        pinball=pinball(actual, quantile, level),
                        coverage=coverage(actual, quantile),
                        wape=None if of_median is None else of_median[lead],
                        origins=len(self.origins),
                        gain=None if gains is None else gains.get((level, lead + 1)),
                    )
                )
        return tuple(rows)

    def as_json(self) -> dict[str, Any]:
        """The scores as plain values (a number that JSON cannot hold is null)."""
        return {"bin_s": self.bin_s, "origins": len(self.origins), "rows": rows_as_json(self.rows())}


@dataclass(frozen=True, slots=True, eq=False)
class ServiceBacktest:
    """A forecaster's backtest on one service of a trace, beside the reference on the same origins.

    Attributes:
        quantity: which series was forecast, one of `QUANTITIES`.
        gains: by (level, lead_bins), over the reference; empty where the forecaster is the reference itself.
    """

    service: str
    quantity: str
    forecaster: str
    params: Mapping[str, Any]
    result: BacktestResult
    gains: Mapping[tuple[float, int], Gain]

    def rows(self) -> tuple[BacktestRow, ...]:
        """One row per lead and level, with the gain over the reference."""
        return self.result.rows(self.gains)

    def as_json(self) -> dict[str, Any]:
        """The scores and what they are of, as plain values (a number that JSON cannot hold is null)."""
        return {
            "service": self.service,
            "quantity": self.quantity,
            "forecaster": self.forecaster,
            "params": dict(self.params),
            "reference": REFERENCE_FORECASTER,
            "bin_s": self.result.bin_s,
            "origins": len(self.result.origins),
            "rows": rows_as_json(self.rows()),
        }


def backtest(
    series: NDArray[np.float64],
    new_forecaster: Callable[[], Forecaster],
    *,
    horizon_bins: int,
    warm_up_bins: int,
    stride_bins: int = 1,
) -> BacktestResult:
    """Forecast `horizon_bins` ahead at every `stride_bins`-th origin from `warm_up_bins` on, and keep what came.

    Every lead is scored on the same origins: the last is the last that has the whole horizon within the series.

    Raises:
        InputError: a number is out of range, or no origin is left.
    """
    if horizon_bins < 1 or warm_up_bins < 0 or stride_bins < 1:
        raise InputError(
            "backtest: want horizon_bins >= 1, warm_up_bins >= 0 and stride_bins >= 1, "
            f"got {horizon_bins}, {warm_up_bins} and {stride_bins}"
        )
    origins = np.arange(warm_up_bins, len(series) - horizon_bins + 1, stride_bins)
    if len(origins) == 0:
        raise InputError(
            f"backtest: {len(series)} bins hold no origin after {warm_up_bins} bins of warm-up with {horizon_bins} "
            "bins to score; use shorter bins, a shorter horizon or a longer trace"
        )
    forecaster = new_forecaster()
    values = np.empty((len(origins), len(forecaster.levels), horizon_bins))
    known = 0
    for index, origin in enumerate(origins.tolist()):
        forecaster.observe(series[known:origin].copy())
        known = origin
        values[index] = forecaster.forecast(horizon_bins).values
    actual = series[origins[:, None] + np.arange(horizon_bins)]
    return BacktestResult(forecaster.bin_s, np.array(forecaster.levels), origins, values, actual)


def backtest_trace(
    trace: Trace,
    forecaster: str,
    *,
    bin_s: float,
    horizon_s: float,
    rng: np.random.Generator,
    service: str | None = None,
    quantity: str = "requests",
    params: Mapping[str, Any] | None = None,
    levels: Sequence[float] = DEFAULT_LEVELS,
    warm_up_fraction: float = 0.5,
    most_origins: int = 20_000,
) -> tuple[ServiceBacktest, ...]:
    """Backtest a forecaster on each service of a trace that has requests, or on `service` alone.

    The first `warm_up_fraction` of the bins is learned from and not scored; the scored bins are the rest. Origins lie
    so far apart that there are at most `most_origins`. `rng` draws the bootstrap of the gain over plain last value.

    Raises:
        InputError: a name, a parameter or a number is wrong, or the trace is too short for what is asked.
    """
    params = dict(params or {})

    def new(name: str, **parameters: Any) -> Callable[[], Forecaster]:
        return lambda: make_forecaster(name, bin_s=bin_s, levels=levels, **parameters)

    new(forecaster, **params)()  # a wrong name or parameter is told before a long trace is counted
    results = []
    for label, series in _series(trace, bin_s, service, quantity).items():
        plan = _plan(len(series), bin_s, horizon_s, warm_up_fraction, most_origins)
        result = backtest(series, new(forecaster, **params), **plan)
        gains: dict[tuple[float, int], Gain] = {}
        if (forecaster, params) != (REFERENCE_FORECASTER, {}):
            reference = backtest(series, new(REFERENCE_FORECASTER), **plan)
            gains = _gains(result, reference, plan["stride_bins"], rng)
        results.append(ServiceBacktest(label, quantity, forecaster, params, result, gains))
    return tuple(results)


def rows_as_json(rows: Sequence[BacktestRow]) -> list[dict[str, Any]]:
    """Rows as plain values; a number that JSON cannot hold becomes null."""
    return [_finite(asdict(row)) for row in rows]


def _plan(bins: int, bin_s: float, horizon_s: float, warm_up_fraction: float, most_origins: int) -> dict[str, int]:
    """The horizon, the warm-up and the stride for a series of so many bins."""
    if not (horizon_s > 0 and math.isfinite(horizon_s)):
        raise InputError(f"backtest: horizon_s must be a positive number of seconds, got {horizon_s}")
    if not 0 <= warm_up_fraction < 1 or most_origins < 1:
        raise InputError(
            f"backtest: want 0 <= warm_up_fraction < 1 and most_origins >= 1, got {warm_up_fraction} and {most_origins}"
        )
    warm_up_bins = int(warm_up_fraction * bins)
    return {
        "horizon_bins": math.ceil(horizon_s / bin_s - _ROUNDING),
        "warm_up_bins": warm_up_bins,
        "stride_bins": math.ceil((bins - warm_up_bins) / most_origins),
    }


def _gains(
    result: BacktestResult, reference: BacktestResult, stride_bins: int, rng: np.random.Generator
) -> dict[tuple[float, int], Gain]:
    """The gain for each level and lead. Both must be of the same origins."""
    origins, levels, leads = result.values.shape
    # Forecasts whose horizons overlap err together: a block holds at least one horizon's worth of origins.
    gains = gain_over(
        result.losses().reshape(origins, levels * leads),
        reference.losses().reshape(origins, levels * leads),
        rng=rng,
        least_block=math.ceil(leads / stride_bins),
    )
    keys = [(level, lead + 1) for level in result.levels.tolist() for lead in range(leads)]
    return dict(zip(keys, gains, strict=True))


def _series(trace: Trace, bin_s: float, service: str | None, quantity: str) -> dict[str, NDArray[np.float64]]:
    """The series to forecast, by service."""
    if quantity not in QUANTITIES:
        raise InputError(f"backtest: unknown quantity '{quantity}'; known: {', '.join(QUANTITIES)}")
    if service is not None and service not in SERVICE_LABELS:
        raise InputError(f"backtest: unknown service '{service}'; known: {', '.join(SERVICE_LABELS)}")
    busy = {label: counts for label, counts in count_arrivals(trace, bin_s).items() if counts.requests.any()}
    if service is not None and service not in busy:
        raise InputError(
            f"trace '{trace.name}': has no request of service '{service}'; it has: {', '.join(busy) or 'none'}"
        )
    if not busy:
        raise InputError(f"trace '{trace.name}': has no request in a complete bin of {bin_s:g} s; use shorter bins")
    return {label: getattr(counts, quantity) for label, counts in busy.items() if service in (None, label)}


def _finite(value: Any) -> Any:
    """Replace NaN and infinities by None, through mappings."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
