"""What a trace is like: its size, rate, burstiness and lengths, in all and by service and model."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadgen.gamma_fit import fit_gamma, fit_gammas, fit_zipf_theta, time_resolution_s
from loadgen.trace import Service, Trace

FIT_WINDOW_S = 1200.0  # the BurstGPT paper fits alpha and beta anew every 20 minutes
PEAK_BIN_S = 10.0
_LEAST_GAPS = 30  # a window with fewer gaps says little about their shape
_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle and the ends of a set of values."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class WindowFits:
    """Gamma fits of the windows of a trace.

    Attributes:
        window_s: length of a window.
        windows: those that are fitted: with 30 gaps or more.
        hidden_windows: those with more than four arrivals per tick of the times, which hides the shape of the gaps.
        alpha, beta_s, cv: over the fitted windows.
    """

    window_s: float
    windows: int
    hidden_windows: int
    alpha: Spread
    beta_s: Spread
    cv: Spread


@dataclass(frozen=True, slots=True)
class GapDescription:
    """How the arrivals are spaced.

    Attributes:
        resolution_s: the tick to which times were rounded; the fit allows for it. 0 = none seen.
        mean_s: mean gap.
        cv: standard deviation / mean; 1 = Poisson, more = bursts.
        alpha, beta_s: shape and scale of the Gamma fit over all gaps; None = times are too coarse to tell.
        by_window: the fit per window of 20 minutes; None = no window could be fitted.
    """

    resolution_s: float
    mean_s: float
    cv: float
    alpha: float | None
    beta_s: float | None
    by_window: WindowFits | None


@dataclass(frozen=True, slots=True)
class TrafficDescription:
    """One kind of traffic.

    Attributes:
        failures: requests without output in the recorded system.
        prompt_tokens, output_tokens: totals.
        mean_rate_per_s: over the whole recording.
        peak_rate_per_s: in the busiest 10 s.
        gaps: None = fewer than three requests, or all at one instant.
        prompt_quantiles, output_quantiles: tokens by level ('p50'); the output's over requests that did not fail.
        prompt_zipf_theta: Zipf exponent of the prompt lengths; None = all alike.
    """

    requests: int
    failures: int
    failed_fraction: float
    prompt_tokens: int
    output_tokens: int
    mean_rate_per_s: float
    peak_rate_per_s: float
    gaps: GapDescription | None
    prompt_quantiles: dict[str, float]
    output_quantiles: dict[str, float]
    prompt_zipf_theta: float | None


@dataclass(frozen=True, slots=True)
class TraceDescription:
    """A trace in numbers, in all, by service label and by model name (those that occur)."""

    name: str
    duration_s: float
    all: TrafficDescription
    services: dict[str, TrafficDescription]
    models: dict[str, TrafficDescription]

    def as_json(self) -> dict[str, Any]:
        """As plain values, ready for json.dumps."""
        return asdict(self)


def describe(trace: Trace) -> TraceDescription:
    """Measure a trace.

    Source: the quantities that Wang et al., "BurstGPT", arXiv 2401.17644, report of their trace.
    """
    resolution_s = time_resolution_s(trace.arrival_s)
    everything = _describe_rows(trace, np.ones(len(trace), dtype=np.bool_), resolution_s)

    def describe_parts(parts: dict[str, NDArray[np.bool_]]) -> dict[str, TrafficDescription]:
        return {
            name: everything if rows.all() else _describe_rows(trace, rows, resolution_s)
            for name, rows in parts.items()
            if rows.any()
        }

    return TraceDescription(
        name=trace.name,
        duration_s=trace.duration_s,
        all=everything,
        services=describe_parts({service.label: trace.service == service for service in Service}),
        models=describe_parts({name: trace.model == place for place, name in enumerate(trace.model_names)}),
    )


def _describe_rows(trace: Trace, rows: NDArray[np.bool_], resolution_s: float) -> TrafficDescription:
    arrival_s = trace.arrival_s[rows]
    prompt_tokens, output_tokens = trace.prompt_tokens[rows], trace.output_tokens[rows]
    requests, failures = len(arrival_s), int(np.count_nonzero(output_tokens == 0))
    busiest = int(np.bincount((arrival_s / PEAK_BIN_S).astype(np.int64)).max()) if requests else 0
    longest = int(prompt_tokens.max(initial=1))
    return TrafficDescription(
        requests=requests,
        failures=failures,
        failed_fraction=failures / requests if requests else 0.0,
        prompt_tokens=int(prompt_tokens.sum(dtype=np.int64)),
        output_tokens=int(output_tokens.sum(dtype=np.int64)),
        mean_rate_per_s=requests / trace.duration_s,
        peak_rate_per_s=busiest / min(PEAK_BIN_S, trace.duration_s),
        gaps=_describe_gaps(arrival_s, resolution_s),
        prompt_quantiles=_quantiles(prompt_tokens),
        output_quantiles=_quantiles(output_tokens[output_tokens > 0]),
        prompt_zipf_theta=fit_zipf_theta(prompt_tokens, 1, longest),
    )


def _quantiles(tokens: NDArray[np.int32]) -> dict[str, float]:
    if len(tokens) == 0:
        return {}
    values = np.quantile(tokens, _LEVELS)
    return {f"p{round(level * 100):02d}": float(value) for level, value in zip(_LEVELS, values, strict=True)}


def _describe_gaps(arrival_s: NDArray[np.float64], resolution_s: float) -> GapDescription | None:
    gaps_s = np.diff(arrival_s)
    if len(gaps_s) < 2 or gaps_s.mean() == 0:
        return None
    fit = fit_gamma(gaps_s, resolution_s)
    return GapDescription(
        resolution_s=resolution_s,
        mean_s=float(gaps_s.mean()),
        cv=float(gaps_s.std() / gaps_s.mean()),
        alpha=fit.alpha if fit else None,
        beta_s=fit.beta_s if fit else None,
        by_window=_fit_windows(arrival_s, resolution_s),
    )


def _fit_windows(arrival_s: NDArray[np.float64], resolution_s: float) -> WindowFits | None:
    """Fit the gaps between arrivals of the same window, window by window."""
    edges_s = np.arange(0.0, arrival_s[-1] + FIT_WINDOW_S, FIT_WINDOW_S)
    windows_s = [np.diff(window_s) for window_s in np.split(arrival_s, np.searchsorted(arrival_s, edges_s[1:]))]
    windows_s = [gaps_s for gaps_s in windows_s if len(gaps_s) >= _LEAST_GAPS and gaps_s.mean() > 0]
    every_fit = fit_gammas(windows_s, resolution_s)
    cvs = [float(gaps_s.std() / gaps_s.mean()) for gaps_s, fit in zip(windows_s, every_fit, strict=True) if fit]
    fits = [fit for fit in every_fit if fit]
    if not fits:
        return None
    return WindowFits(
        window_s=FIT_WINDOW_S,
        windows=len(fits),
        hidden_windows=len(every_fit) - len(fits),
        alpha=_spread([fit.alpha for fit in fits]),
        beta_s=_spread([fit.beta_s for fit in fits]),
        cv=_spread(cvs),
    )


def _spread(values: list[float]) -> Spread:
    return Spread(float(np.median(values)), min(values), max(values))
