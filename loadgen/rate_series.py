"""Request counts by bin: what is published of traffic whose requests are not."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadgen.errors import InputError, shown
from loadgen.formats.compressed import plain_name
from loadgen.formats.csv_columns import integers, numbers, read_columns, read_header

SERVEGEN_TOTAL_HEADER = ("t_seconds", "requests_per_s", "active_clients")

_HOUR_S = 3600.0
_DAY_HOURS = 24
_MOST_VALUES = 10_000_000


@dataclass(frozen=True, slots=True, eq=False)
class RateSeries:
    """How many requests came in each bin of time, by label.

    Attributes:
        name: where the series comes from, for titles and messages.
        bin_s: length of every bin; bin i is [i * bin_s, (i + 1) * bin_s).
        labels: one name per row of `requests`: services, clients, or 'all'.
        requests: f64[labels, bins], requests in the bin; NaN = not recorded.
    """

    name: str
    bin_s: float
    labels: tuple[str, ...]
    requests: NDArray[np.float64]

    @property
    def duration_s(self) -> float:
        """Length of the series."""
        return float(self.requests.shape[1] * self.bin_s)

    def of(self, label: str) -> NDArray[np.float64]:
        """The requests in each bin under one label, f64[bins].

        Raises:
            InputError: the series has no such label; lists those it has.
        """
        if label not in self.labels:
            raise InputError(f"rate series '{self.name}': has no '{label}'; it has {', '.join(self.labels)}")
        requests: NDArray[np.float64] = self.requests[self.labels.index(label)]
        return requests


def is_rate_series(header: list[str]) -> bool:
    """Whether a CSV header is that of a file `read_rate_series` reads."""
    return (header[:1] == ["t_seconds"] and len(header) > 1) or (header[:2] == ["day", "hour"] and len(header) > 2)


def read_rate_series(path: Path) -> RateSeries:
    """Read requests per bin of time from a CSV file, of a form that is told by its header.

    `t_seconds,requests_per_s,active_clients` (ServeGen, all clients): a bin in which nobody sent anything is a gap of
    the recording, hence NaN: production traffic of hundreds of requests per second has no silent ten minutes.
    `t_seconds,<client>,...` (ServeGen, requests per second of each client): a client may well be silent, zero is zero.
    `day,hour,<label>,...`: requests in each hour, counted from 0:00 of the first day.
    A bin without a row is NaN.

    Source: github.com/alibaba/ServeGen (rates); github.com/HPMLL/BurstGPT (requests, counted by hour).

    Raises:
        InputError: the header is of neither form, a cell is bad, or the times are no regular series.
    """
    header = read_header(path)
    if not is_rate_series(header):
        raise InputError(
            f"{path}: the header '{shown(','.join(header), 100)}' is of no rate series; want t_seconds,requests_per_s,"
            "active_clients or t_seconds,<client>,... or day,hour,<label>,..."
        )
    return _read_rates(path, header) if header[0] == "t_seconds" else _read_hourly_counts(path, header)


def _read_rates(path: Path, header: list[str]) -> RateSeries:
    """Requests per second at the times `t_seconds`, as requests per bin."""
    is_total = tuple(header) == SERVEGEN_TOTAL_HEADER
    labels = ("requests_per_s",) if is_total else tuple(header[1:])
    table = read_columns(path, [numbers(name) for name in ("t_seconds", *labels)], "t_seconds").table
    start_s = table["t_seconds"].to_numpy()
    if len(start_s) < 2:
        raise InputError(f"{path}: holds one row; want at least two, to know how long a bin is")
    bin_s = float(np.min(np.diff(start_s)))
    with np.errstate(over="ignore"):  # an endless number of bins is no multiple, below
        index = np.rint((start_s - start_s[0]) / bin_s) if bin_s > 0 else np.zeros(len(start_s))
    off = np.flatnonzero(
        (np.diff(index, prepend=-1) <= 0) | (np.abs(start_s - start_s[0] - index * bin_s) > 1e-3 * bin_s)
    )
    if len(off):
        raise InputError(
            f"{path}: t_seconds {start_s[off[0]]:g} is no multiple of the bin of {bin_s:g} s after {start_s[0]:g}, "
            "or comes twice; want a regular series"
        )
    requests = _spread(path, table, labels, index.astype(np.int64)) * bin_s
    if is_total:
        requests[requests == 0] = np.nan
    return RateSeries(plain_name(path), bin_s, ("all",) if is_total else labels, requests)


def _read_hourly_counts(path: Path, header: list[str]) -> RateSeries:
    """Requests in each hour of each day."""
    labels = tuple(header[2:])
    columns = [integers("day"), integers("hour"), *(integers(label) for label in labels)]
    table = read_columns(path, columns, "day").table
    day, hour = (table[name].to_numpy().astype(np.int64) for name in ("day", "hour"))
    if np.max(hour) >= _DAY_HOURS:
        raise InputError(f"{path}: 'hour' is {np.max(hour)}, want 0 to {_DAY_HOURS - 1}")
    index = (day - day[0]) * _DAY_HOURS + hour
    backward = np.flatnonzero(np.diff(index, prepend=-1) <= 0)
    if len(backward):
        row = backward[0]
        raise InputError(f"{path}: day {day[row]} hour {hour[row]} comes twice or late; sort the file by day and hour")
    return RateSeries(plain_name(path), _HOUR_S, labels, _spread(path, table, labels, index))


def _spread(path: Path, table: Any, labels: tuple[str, ...], index: NDArray[np.int64]) -> NDArray[np.float64]:
    """The rows' values at their bins, NaN in bins without a row; f64[labels, bins]."""
    if (index[-1] + 1) * len(labels) > _MOST_VALUES:
        raise InputError(
            f"{path}: spans {index[-1] + 1} bins of {len(labels)} columns, want at most {_MOST_VALUES} values; check "
            "its times"
        )
    values = np.full((len(labels), int(index[-1]) + 1), np.nan)
    for place, label in enumerate(labels):
        values[place, index] = table[label].to_numpy()
    return values
