"""A trace: the requests that a service received, as columns."""

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from loadgen.errors import InputError
from loadgen.prefix import PrefixBlocks, check_prefix_blocks


class Service(IntEnum):
    """The two kinds of traffic that BurstGPT tells apart; the number is what `Trace.service` holds."""

    CONVERSATION = 0
    API = 1

    @property
    def label(self) -> str:
        """The name in files, headers and plots: 'conversation' or 'api'."""
        return self.name.lower()


SERVICE_LABELS: tuple[str, ...] = tuple(service.label for service in Service)


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Requests in order of arrival, one array per attribute, all of length n.

    Attributes:
        name: where the trace comes from, for titles and messages.
        duration_s: length of the recording, the quiet tail included; every arrival is in [0, duration_s).
        arrival_s: f64[n], non-decreasing, counted from the start of the recording.
        prompt_tokens: i32[n], >= 0.
        output_tokens: i32[n], >= 0; 0 = the request failed in the recorded system.
        service: i8[n], values of `Service`.
        model: i16[n], index into `model_names`.
        session: i64[n], requests of one conversation share a number; unique per request where unknown.
        model_names: one name per value of `model`.
        elapsed_s: f64[n], seconds from submission to the last token in the recorded system, NaN where unknown; None =
            the source does not say.
        output_is_limit: bool[n], true where `output_tokens` is only the most that is asked for and the engine ends
            the answer; None = nowhere.
        prefix: which prompts begin alike; None = the source does not say.
    """

    name: str
    duration_s: float
    arrival_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int32]
    output_tokens: NDArray[np.int32]
    service: NDArray[np.int8]
    model: NDArray[np.int16]
    session: NDArray[np.int64]
    model_names: tuple[str, ...]
    elapsed_s: NDArray[np.float64] | None = None
    output_is_limit: NDArray[np.bool_] | None = None
    prefix: PrefixBlocks | None = None

    def __len__(self) -> int:
        """The number of requests."""
        return len(self.arrival_s)

    def window(self, start_s: float, end_s: float) -> "Trace":
        """The requests that arrive in [start_s, end_s), with the time counted from `start_s`.

        A window that reaches past the recording ends where the recording ends.

        Raises:
            InputError: the window is empty or begins outside the recording.
        """
        end_s = min(end_s, self.duration_s)
        if not 0 <= start_s < end_s:
            raise InputError(
                f"trace '{self.name}': no window from {start_s:g} s to {end_s:g} s in a recording of "
                f"{self.duration_s:g} s; want 0 <= start < end"
            )
        first, last = np.searchsorted(self.arrival_s, [start_s, end_s])
        return self._rows(slice(first, last))._timed(self.arrival_s[first:last] - start_s, end_s - start_s)

    def sped_up(self, speed: float) -> "Trace":
        """The same requests `speed` times faster: arrivals and duration are divided by it, nothing is lost.

        Raises:
            InputError: `speed` is not a positive number.
        """
        if not 0 < speed < np.inf:
            raise InputError(f"trace '{self.name}': speed is {speed:g}, want a positive number")
        return self._timed(self.arrival_s / speed, self.duration_s / speed)

    def capped(self, max_prompt_tokens: int | None = None, max_output_tokens: int | None = None) -> "Trace":
        """The same requests with longer prompts and outputs cut to these lengths; None = no limit.

        Raises:
            InputError: a limit is below 1.
        """
        for limit, what in ((max_prompt_tokens, "max_prompt_tokens"), (max_output_tokens, "max_output_tokens")):
            if limit is not None and limit < 1:
                raise InputError(f"trace '{self.name}': {what} is {limit}, want at least 1")
        prompt_tokens, output_tokens = self.prompt_tokens, self.output_tokens
        if max_prompt_tokens is not None:
            prompt_tokens = np.minimum(prompt_tokens, min(max_prompt_tokens, _INT32_MAX)).astype(np.int32)
        if max_output_tokens is not None:
            output_tokens = np.minimum(output_tokens, min(max_output_tokens, _INT32_MAX)).astype(np.int32)
        return replace(self, prompt_tokens=prompt_tokens, output_tokens=output_tokens)

    def of_service(self, service: Service) -> "Trace":
        """The requests of one service; the duration stays."""
        return self.take(np.flatnonzero(self.service == service))

    def of_model(self, model_name: str) -> "Trace":
        """The requests for one model; the duration stays.

        Raises:
            InputError: the trace has no such model; lists those it has.
        """
        if model_name not in self.model_names:
            raise InputError(f"trace '{self.name}': has no model '{model_name}'; it has {', '.join(self.model_names)}")
        return self.take(np.flatnonzero(self.model == self.model_names.index(model_name)))

    def take(self, rows: NDArray[np.integer]) -> "Trace":
        """The requests of these rows, which must ascend; the duration stays."""
        return self._rows(rows)

    def _rows(self, rows: NDArray[np.integer] | slice) -> "Trace":
        """The requests of these rows; those of a slice are not copied."""
        taken: dict[str, Any] = {column: getattr(self, column)[rows] for column in COLUMNS}
        for column in OPTIONAL_COLUMNS:
            values = getattr(self, column)
            taken[column] = None if values is None else values[rows]
        return replace(self, **taken, prefix=None if self.prefix is None else self.prefix.take(rows))

    def _timed(self, arrival_s: NDArray[np.float64], duration_s: float) -> "Trace":
        """With new times. Rounding may push the last arrivals onto the end; they are kept just inside it."""
        return replace(self, duration_s=duration_s, arrival_s=np.minimum(arrival_s, np.nextafter(duration_s, 0.0)))


_INT32_MAX = int(np.iinfo(np.int32).max)
_INT16_MAX = int(np.iinfo(np.int16).max)

COLUMNS: dict[str, type[np.generic]] = {
    "arrival_s": np.float64,
    "prompt_tokens": np.int32,
    "output_tokens": np.int32,
    "service": np.int8,
    "model": np.int16,
    "session": np.int64,
}
"""Those that every trace has, with their types."""

OPTIONAL_COLUMNS: dict[str, type[np.generic]] = {"elapsed_s": np.float64, "output_is_limit": np.bool_}
"""Those that only some sources have."""


def make_trace(
    name: str,
    arrival_s: ArrayLike,
    prompt_tokens: ArrayLike,
    output_tokens: ArrayLike,
    *,
    duration_s: float,
    service: ArrayLike = Service.CONVERSATION,
    model: ArrayLike = 0,
    session: ArrayLike | None = None,
    model_names: tuple[str, ...] = ("unknown",),
    elapsed_s: ArrayLike | None = None,
    output_is_limit: ArrayLike | None = None,
    prefix: PrefixBlocks | None = None,
) -> Trace:
    """Build a checked trace from columns; a single `service` or `model` holds for every request.

    Args:
        name: for titles and messages.
        arrival_s: f64[n], non-decreasing, in [0, duration_s).
        prompt_tokens, output_tokens: integers [n], >= 0.
        duration_s: length of the recording.
        service: values of `Service`.
        model: indices into `model_names`.
        session: integers [n]; None = every request is a session of its own.
        model_names: one name per value of `model`.
        elapsed_s, output_is_limit, prefix: as in `Trace`; None = not known.

    Raises:
        InputError: naming the first row (counted from 0) that breaks a rule.
    """
    arrival = np.asarray(arrival_s, dtype=np.float64)
    rows = len(arrival)
    columns: dict[str, NDArray[Any]] = {
        "arrival_s": arrival,
        "prompt_tokens": _integers(name, "prompt_tokens", prompt_tokens, rows, 0, _INT32_MAX),
        "output_tokens": _integers(name, "output_tokens", output_tokens, rows, 0, _INT32_MAX),
        "service": _integers(name, "service", service, rows, 0, len(Service) - 1),
        "model": _integers(name, "model", model, rows, 0, min(len(model_names) - 1, _INT16_MAX)),
        "session": np.arange(rows) if session is None else _integers(name, "session", session, rows),
    }
    _check_times(name, arrival, float(duration_s))
    typed = {column: np.ascontiguousarray(values, dtype=COLUMNS[column]) for column, values in columns.items()}
    for column, given in (("elapsed_s", elapsed_s), ("output_is_limit", output_is_limit)):
        if given is not None:
            typed[column] = _optional(name, column, given, rows)
    if prefix is not None:
        check_prefix_blocks(name, prefix, rows)
    return Trace(name=name, duration_s=float(duration_s), model_names=tuple(model_names), prefix=prefix, **typed)


def _optional(name: str, column: str, values: ArrayLike, rows: int) -> NDArray[Any]:
    """An optional column of the trace's length; an elapsed time is a number >= 0, or NaN."""
    array = np.ascontiguousarray(values, dtype=OPTIONAL_COLUMNS[column])
    if array.shape != (rows,):
        raise InputError(f"trace '{name}': {column} has {len(array)} rows, arrival_s has {rows}; want as many")
    if column == "elapsed_s":
        bad = np.flatnonzero((array < 0) | np.isinf(array))
        if len(bad):
            raise InputError(f"trace '{name}': {column} is {array[bad[0]]} at row {bad[0]}, want a number >= 0")
    return array


def _integers(
    name: str, column: str, values: ArrayLike, rows: int, low: int | None = None, high: int | None = None
) -> NDArray[Any]:
    """One column as integers of the trace's length, each in [low, high]."""
    array = np.asarray(values)
    if array.ndim == 0:
        array = np.full(rows, array)
    if array.shape != (rows,):
        raise InputError(f"trace '{name}': {column} has {len(array)} rows, arrival_s has {rows}; want as many")
    if rows and array.dtype.kind not in "iu":
        raise InputError(f"trace '{name}': {column} holds {array.dtype}, want integers")
    low = -(2**63) if low is None else low
    high = 2**63 - 1 if high is None else high
    if rows and (array.min() < low or array.max() > high):
        row = np.flatnonzero((array < low) | (array > high))[0]
        raise InputError(f"trace '{name}': {column} is {array[row]} at row {row}, want {low} to {high}")
    return array


def _check_times(name: str, arrival_s: NDArray[np.float64], duration_s: float) -> None:
    """Arrivals are numbers, in order, and inside the recording."""
    if not 0 < duration_s < np.inf:
        raise InputError(f"trace '{name}': duration_s is {duration_s:g}, want a positive number of seconds")
    is_in_order = bool(np.all(arrival_s[1:] >= arrival_s[:-1]))  # False where a time is NaN, too, unless it is alone
    if is_in_order and (len(arrival_s) == 0 or (arrival_s[0] >= 0 and arrival_s[-1] < duration_s)):
        return
    outside = np.flatnonzero(~((arrival_s >= 0) & (arrival_s < duration_s)))
    if len(outside):
        row = outside[0]
        raise InputError(
            f"trace '{name}': arrival_s is {arrival_s[row]!s} s at row {row}, want 0 to below the duration of "
            f"{duration_s!s} s"
        )
    row = int(np.flatnonzero(np.diff(arrival_s) < 0)[0]) + 1
    raise InputError(
        f"trace '{name}': arrival_s goes backward at row {row} ({arrival_s[row - 1]!s} s, then "
        f"{arrival_s[row]!s} s); sort the trace first"
    )
