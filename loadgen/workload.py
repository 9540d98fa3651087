"""Workload models: traffic as a few readable parameters, from which any number of traces can be drawn."""

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Discriminator, Field, FiniteFloat, Tag, model_validator

from loadgen.arrivals import PiecewiseLinear, draw_arrivals
from loadgen.errors import InputError
from loadgen.lengths import Lengths, Positive, draw_lengths
from loadgen.strict_config import StrictModel, parse, read_yaml
from loadgen.trace import Service, Trace, make_trace

_CURVE_PIECES = 200  # a curve is drawn as so many straight lines: within 1/200**2 of its range
_MAX_REQUESTS = 100_000_000


Instant = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Point(StrictModel):
    """A value at an instant of the model's time."""

    at_s: Instant
    value: FiniteFloat


class Schedule(StrictModel):
    """A value over time: before the first point it is the first value, after the last point the last.

    steps: each value holds until the next point. linear: straight lines between the points.
    quadratic: the parabola through exactly three points.
    """

    interpolation: Literal["steps", "linear", "quadratic"]
    points: Annotated[tuple[Point, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _check_points(self) -> Self:
        times = [point.at_s for point in self.points]
        if any(later <= earlier for earlier, later in pairwise(times)):
            raise ValueError(f"points are at {times} s; want them in order of time, each instant once")
        if self.interpolation == "quadratic" and len(times) != 3:
            raise ValueError(f"a quadratic schedule goes through 3 points, got {len(times)}")
        return self


def _kind_of_value(value: object) -> str:
    """A mapping is meant as a schedule, all else as a number: so an error is told for what was meant."""
    return "schedule" if isinstance(value, (dict, Schedule)) else "constant"


Value = Annotated[
    Annotated[Positive, Tag("constant")] | Annotated[Schedule, Tag("schedule")], Discriminator(_kind_of_value)
]


class Stream(StrictModel):
    """One kind of traffic: when its requests come and how long they are.

    Gaps between arrivals are Gamma(alpha, beta): burstier the smaller alpha is (CV = 1/sqrt(alpha); 1 = Poisson).
    Their size is given either as a rate or as beta, which are the same by rate = 1/(alpha beta). Lengths are drawn
    independently of each other and of the arrivals.

    Attributes:
        service: 'conversation' or 'api'.
        model: name of the model that is asked for.
        start_s, end_s: the stream lives in [start_s, end_s) of the model's time; by default all of it.
        rate_per_s: arrivals per second.
        beta_s: scale of the gaps, in place of `rate_per_s`.
        alpha: shape of the gaps.
        prompt_tokens, output_tokens: length distributions.
    """

    service: Literal["conversation", "api"]
    model: str
    start_s: Instant = 0.0
    end_s: Positive | None = None
    rate_per_s: Value | None = None
    beta_s: Value | None = None
    alpha: Value = 1.0
    prompt_tokens: Lengths
    output_tokens: Lengths

    @model_validator(mode="after")
    def _check_rate(self) -> Self:
        if (self.rate_per_s is None) == (self.beta_s is None):
            raise ValueError("give either rate_per_s or beta_s")
        return self


class WorkloadModel(StrictModel):
    """Streams of requests over a span of time.

    Source: the model of Wang et al., "BurstGPT", arXiv 2401.17644: Gamma gaps with changing alpha and beta, Zipf
    request lengths.
    """

    name: str
    duration_s: Positive
    streams: Annotated[tuple[Stream, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _check_streams(self) -> Self:
        for number, stream in enumerate(self.streams):
            try:
                _check_stream(stream, self.duration_s)
            except ValueError as error:
                raise ValueError(f"streams.{number}: {error}") from error
        due = expected_requests(self)
        if due > _MAX_REQUESTS:
            raise ValueError(f"about {due:.3g} requests are due; want at most {_MAX_REQUESTS:.0e}")
        return self


def read_workload_model(path: Path) -> WorkloadModel:
    """Read a workload model from YAML.

    Raises:
        InputError: the file is unreadable, or a key or value is wrong.
    """
    return parse(WorkloadModel, read_yaml(path), str(path))


def expected_requests(model: WorkloadModel) -> float:
    """The mean number of requests over all traces that can be drawn."""
    return sum(float(_rate_and_alpha(stream, model.duration_s)[0].integral()[-1]) for stream in model.streams)


def draw_trace(model: WorkloadModel, rng: np.random.Generator) -> Trace:
    """Draw one trace; each stream has its own source of chance, so that adding one leaves the others as they were.

    Raises:
        InputError: the trace has no request (the rate is too low for the duration).
    """
    columns = []
    names = tuple(dict.fromkeys(stream.model for stream in model.streams))
    for stream, source in zip(model.streams, rng.spawn(len(model.streams)), strict=True):
        arrival_s = draw_arrivals(*_rate_and_alpha(stream, model.duration_s), source)
        count = len(arrival_s)
        prompt_tokens = draw_lengths(stream.prompt_tokens, count, source)
        output_tokens = draw_lengths(stream.output_tokens, count, source)
        service = np.full(count, Service[stream.service.upper()])
        columns.append((arrival_s, prompt_tokens, output_tokens, service, np.full(count, names.index(stream.model))))
    arrival_s, prompt_tokens, output_tokens, service, model_index = (
        np.concatenate(parts) for parts in zip(*columns, strict=True)
    )
    if len(arrival_s) == 0:
        raise InputError(f"workload '{model.name}': no request was drawn; raise the rate or the duration")
    order = np.argsort(arrival_s, kind="stable")
    return make_trace(
        model.name,
        arrival_s[order],
        prompt_tokens[order],
        output_tokens[order],
        duration_s=model.duration_s,
        service=service[order],
        model=model_index[order],
        model_names=names,
    )


def _check_stream(stream: Stream, duration_s: float) -> None:
    """What can be told only with the model's duration: the span, and that curves stay positive on it."""
    end_s = duration_s if stream.end_s is None else stream.end_s
    if not stream.start_s < end_s <= duration_s:
        raise ValueError(f"start_s {stream.start_s:g}, end_s {end_s:g}; want 0 <= start < end <= {duration_s:g}")
    for what, value, lowest in (
        ("rate_per_s", stream.rate_per_s, 0.0),
        ("beta_s", stream.beta_s, 1e-9),
        ("alpha", stream.alpha, 0.01),
    ):
        if value is None:
            continue
        curve = _over_time(value, stream.start_s, end_s)
        reached = float(min(curve.left.min(), curve.right.min()))
        if reached < lowest:
            raise ValueError(f"{what} falls to {reached:g}; want at least {lowest:g} at all times")


def _rate_and_alpha(stream: Stream, duration_s: float) -> tuple[PiecewiseLinear, PiecewiseLinear]:
    """The stream's rate (1/s) and Gamma shape over its life."""
    end_s = duration_s if stream.end_s is None else stream.end_s
    alpha = _over_time(stream.alpha, stream.start_s, end_s)
    if stream.rate_per_s is not None:
        return _over_time(stream.rate_per_s, stream.start_s, end_s), alpha
    assert stream.beta_s is not None, "one of the two is given"
    beta_s = _over_time(stream.beta_s, stream.start_s, end_s)
    edges_s = np.union1d(alpha.edges_s, beta_s.edges_s)
    if not (np.array_equal(alpha.left, alpha.right) and np.array_equal(beta_s.left, beta_s.right)):
        # 1/(alpha beta) is a curve where either moves.
        edges_s = np.union1d(edges_s, np.linspace(stream.start_s, end_s, _CURVE_PIECES + 1))
    fine_alpha, fine_beta_s = alpha.split_at(edges_s), beta_s.split_at(edges_s)
    rate_per_s = PiecewiseLinear(
        edges_s, 1 / (fine_alpha.left * fine_beta_s.left), 1 / (fine_alpha.right * fine_beta_s.right)
    )
    return rate_per_s, alpha


def _over_time(value: Value, start_s: float, end_s: float) -> PiecewiseLinear:
    """A constant or a schedule on [start_s, end_s)."""
    if not isinstance(value, Schedule):
        return PiecewiseLinear(np.array([start_s, end_s]), np.array([value]), np.array([value]))
    at_s = np.array([point.at_s for point in value.points])
    values = np.array([point.value for point in value.points])
    within_s = at_s[(at_s > start_s) & (at_s < end_s)]
    if value.interpolation == "quadratic":
        within_s = np.union1d(within_s, np.linspace(start_s, end_s, _CURVE_PIECES + 1)[1:-1])
    edges_s = np.concatenate([[start_s], within_s, [end_s]])
    if value.interpolation == "steps":
        held = values[np.maximum(np.searchsorted(at_s, edges_s[:-1], side="right") - 1, 0)]
        return PiecewiseLinear(edges_s, held, held)
    if value.interpolation == "linear":
        corners = np.interp(edges_s, at_s, values)
    else:
        parabola = np.polyfit(at_s - at_s[0], values, 2)
        corners = np.polyval(parabola, np.clip(edges_s, at_s[0], at_s[-1]) - at_s[0])
    return PiecewiseLinear(edges_s, corners[:-1], corners[1:])
