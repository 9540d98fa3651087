"""Arrivals that give known counts: so many requests in each bin, placed within it as burstily as asked for."""

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationInfo, model_validator

from loadgen.arrivals.piecewise import Floats
from loadgen.arrivals.placement import place_arrivals
from loadgen.rate_series import read_rate_series
from loadgen.strict_config import NonNegative, Positive, StrictModel

_Shape = Annotated[float, Field(ge=0.01, le=1e4)]


class CountArrivals(StrictModel):
    """A series of counts per bin, met exactly by every draw; the first bin begins where the stream does.

    Within a bin of n requests the n + 1 gaps, those to the bin's edges included, are Gamma(alpha) and scaled to fill
    it; with alpha 1 that is a Poisson process of which n arrivals are known.

    Attributes:
        file: a rate series that `loadgen.rate_series` reads, relative to the workload model; it is read once, into
            `requests` and `bin_s`, so that a model written out again needs no other file.
        label: which of the file's series; may be left out where there is one.
        skip_s: how much of the file's beginning is left out, a multiple of its bin.
        requests: per bin; null = not known.
        bin_s: length of a bin.
        factor: multiplies all counts. Counts that are then no whole numbers are rounded so that the total up to each
            bin's end is right to within half a request.
        alpha: shape of the gaps: the smaller, the burstier.
        missing: what to take for an unknown count: none is accepted, zero, or the line between its neighbours.
    """

    process: Literal["counts"]
    file: Path | None = None
    label: str | None = None
    skip_s: NonNegative = 0.0
    requests: Annotated[tuple[NonNegative | None, ...], Field(min_length=1)]
    bin_s: Positive
    factor: Positive = 1.0
    alpha: _Shape = 1.0
    missing: Literal["error", "zero", "interpolate"] = "error"

    @model_validator(mode="before")
    @classmethod
    def _read_file(cls, values: Any, info: ValidationInfo) -> Any:
        if not isinstance(values, dict) or "requests" in values:
            return values
        if "file" not in values:
            raise ValueError("give file, or requests and bin_s")
        match values["file"], values.get("label"), values.get("skip_s", 0.0):
            case (str() | Path()) as file, (str() | None) as label, (int() | float()) as skip_s:
                folder = (info.context or {}).get("folder") or Path()
                return {**values, **_read_counts(folder / file, label, skip_s)}
            case _:
                return values  # of a wrong type, as the fields will say


def draw_counts(process: CountArrivals, start_s: float, end_s: float, rng: np.random.Generator) -> Floats:
    """Draw the arrival times (s, sorted) in [start_s, end_s); of a bin that the end cuts, those before the end."""
    counts = _whole_counts(process, start_s, end_s)
    edges_s = start_s + process.bin_s * np.arange(len(counts) + 1, dtype=np.float64)
    arrival_s = place_arrivals(counts, edges_s[:-1], edges_s[1:], process.alpha, rng)
    return arrival_s[: np.searchsorted(arrival_s, end_s)]


def expected_counts(process: CountArrivals, start_s: float, end_s: float) -> float:
    """The mean number of arrivals in [start_s, end_s): the counts, of a bin that the end cuts its share.

    Raises:
        ValueError: the counts end before `end_s`, or one of them is missing and must not be.
    """
    counts = _whole_counts(process, start_s, end_s)
    edges_s = start_s + process.bin_s * np.arange(len(counts) + 1)
    return float(np.interp(end_s, edges_s, np.concatenate([[0], np.cumsum(counts)])))


def _read_counts(path: Path, label: str | None, skip_s: float) -> dict[str, Any]:
    """The counts of one series of a file, as the keys that hold them."""
    series = read_rate_series(path)
    if label is None and len(series.labels) > 1:
        raise ValueError(f"{path} holds {len(series.labels)} series; give label, one of {', '.join(series.labels)}")
    skipped = round(skip_s / series.bin_s)
    if abs(skipped * series.bin_s - skip_s) > 1e-6:
        raise ValueError(f"skip_s is {skip_s:g}, want a multiple of the bin of {series.bin_s:g} s in {path}")
    counts = series.of(label or series.labels[0])[skipped:]
    return {"bin_s": series.bin_s, "requests": [None if np.isnan(count) else float(count) for count in counts]}


def _whole_counts(process: CountArrivals, start_s: float, end_s: float) -> NDArray[np.int64]:
    """The number of requests in each bin that begins before the end."""
    bins = int(np.ceil((end_s - start_s) / process.bin_s - 1e-9))
    if bins > len(process.requests):
        raise ValueError(
            f"the counts cover {len(process.requests) * process.bin_s:g} s, the stream lasts {end_s - start_s:g} s; "
            "end the stream earlier or give more counts"
        )
    counts = np.array([np.nan if count is None else count for count in process.requests[:bins]])
    unknown = np.isnan(counts)
    if unknown.any():
        if process.missing == "error":
            raise ValueError(
                f"missing counts: {unknown.sum()}, the first in bin {int(np.argmax(unknown))}; set missing to zero or "
                "interpolate"
            )
        if process.missing == "interpolate" and not unknown.all():
            counts[unknown] = np.interp(np.flatnonzero(unknown), np.flatnonzero(~unknown), counts[~unknown])
        counts[np.isnan(counts)] = 0.0
    reached = np.floor(np.cumsum(counts * process.factor) + 0.5)
    return np.diff(reached, prepend=0.0).astype(np.int64)
