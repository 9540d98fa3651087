"""Workload models: traffic as a few readable parameters, from which any number of traces can be drawn."""

from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from loadgen.arrivals.process import ArrivalProcess, draw_process, expected_arrivals
from loadgen.errors import InputError
from loadgen.lengths import Lengths, draw_lengths
from loadgen.strict_config import NonNegative, Positive, StrictModel, parse, read_yaml
from loadgen.trace import Service, Trace, make_trace

_MAX_REQUESTS = 100_000_000


class Stream(StrictModel):
    """One kind of traffic: when its requests come and how long they are.

    Lengths are drawn independently of each other and of the arrivals.

    Attributes:
        service: 'conversation' or 'api'.
        model: name of the model that is asked for.
        start_s, end_s: the stream lives in [start_s, end_s) of the model's time; by default all of it.
        arrivals: the process by which its requests come.
        prompt_tokens, output_tokens: length distributions.
    """

    service: Literal["conversation", "api"]
    model: str
    start_s: NonNegative = 0.0
    end_s: Positive | None = None
    arrivals: ArrivalProcess
    prompt_tokens: Lengths
    output_tokens: Lengths


class WorkloadModel(StrictModel):
    """Streams of requests over a span of time."""

    name: str
    duration_s: Positive
    streams: Annotated[tuple[Stream, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _check_streams(self) -> Self:
        due = 0.0
        for number, stream in enumerate(self.streams):
            try:
                due += expected_arrivals(stream.arrivals, *_span_s(stream, self.duration_s))
            except ValueError as error:
                raise ValueError(f"streams.{number}: {error}") from error
        if due > _MAX_REQUESTS:
            raise ValueError(f"about {due:.3g} requests are due; want at most {_MAX_REQUESTS:.0e}")
        return self


def read_workload_model(path: Path) -> WorkloadModel:
    """Read a workload model from YAML.

    Raises:
        InputError: the file is unreadable, or a key or value is wrong.
    """
    return parse(WorkloadModel, read_yaml(path), str(path), path.parent)


def expected_requests(model: WorkloadModel) -> float:
    """The mean number of requests over all traces that can be drawn."""
    return sum(expected_arrivals(stream.arrivals, *_span_s(stream, model.duration_s)) for stream in model.streams)


def draw_trace(model: WorkloadModel, rng: np.random.Generator) -> Trace:
    """Draw one trace; each stream has its own source of chance, so that adding one leaves the others as they were.

    Raises:
        InputError: the trace has no request (the rate is too low for the duration).
    """
    columns = []
    names = tuple(dict.fromkeys(stream.model for stream in model.streams))
    for stream, source in zip(model.streams, rng.spawn(len(model.streams)), strict=True):
        arrival_s = draw_process(stream.arrivals, *_span_s(stream, model.duration_s), source)
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


def _span_s(stream: Stream, duration_s: float) -> tuple[float, float]:
    """When the stream lives.

    Raises:
        ValueError: not within the model's duration.
    """
    end_s = duration_s if stream.end_s is None else stream.end_s
    if not stream.start_s < end_s <= duration_s:
        raise ValueError(f"start_s {stream.start_s:g}, end_s {end_s:g}; want 0 <= start < end <= {duration_s:g}")
    return stream.start_s, end_s
