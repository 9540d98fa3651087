"""Workload models: traffic as a few readable parameters, from which any number of traces can be drawn."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from loadgen.arrivals.process import ArrivalProcess, draw_process, expected_arrivals
from loadgen.errors import InputError
from loadgen.lengths import LeftToEngine, Lengths, OutputLengths, draw_lengths, draw_outputs, mean_length
from loadgen.sessions import Sessions, add_history, draw_turn_arrivals, draw_turns
from loadgen.strict_config import NonNegative, Positive, StrictModel, parse, read_yaml
from loadgen.trace import COLUMNS, Service, Trace, make_trace

_MAX_REQUESTS = 100_000_000


class Stream(StrictModel):
    """One kind of traffic: when its requests come, for which models, and how long they are.

    Lengths are drawn independently of each other and of the arrivals.

    Attributes:
        service: 'conversation' or 'api'.
        model: name of the model that is asked for.
        models: several models with the share of the requests that each gets, in place of `model`; the shares may be
            counts as well. A conversation stays with its model.
        start_s, end_s: the stream lives in [start_s, end_s) of the model's time; by default all of it.
        arrivals: the process by which its requests come.
        sessions: makes of each arrival a conversation.
        prompt_tokens: length of the prompt; within a session of what each turn adds.
        output_tokens: length of the answer.
        failed_fraction: of the requests, whatever their time, failed in the system that is modelled: no output.
    """

    service: Literal["conversation", "api"]
    model: str | None = None
    models: Annotated[dict[str, Positive], Field(min_length=1)] | None = None
    start_s: NonNegative = 0.0
    end_s: Positive | None = None
    arrivals: ArrivalProcess
    sessions: Sessions | None = None
    prompt_tokens: Lengths
    output_tokens: OutputLengths
    failed_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _check_model(self) -> Self:
        if (self.model is None) == (self.models is None):
            raise ValueError("give either model or models")
        return self

    @property
    def model_shares(self) -> dict[str, float]:
        """How often each model is asked for, in whatever unit."""
        return {self.model: 1.0} if self.model is not None else dict(self.models or {})


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
                due += _expected_of(stream, self.duration_s)
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
    """The mean number of requests over all traces that can be drawn, a session's turns after the end included."""
    return sum(_expected_of(stream, model.duration_s) for stream in model.streams)


def draw_trace(model: WorkloadModel, rng: np.random.Generator) -> Trace:
    """Draw one trace; each stream has its own source of chance, so that adding one leaves the others as they were.

    Where sessions say how long an answer takes, that is each request's elapsed time: what else lies between two turns
    is think time.

    Raises:
        InputError: the trace has no request (the rate is too low for the duration).
    """
    names = tuple(dict.fromkeys(name for stream in model.streams for name in stream.model_shares))
    sources = rng.spawn(len(model.streams))
    drawn = [
        _draw_stream(stream, _span_s(stream, model.duration_s), names, source)
        for stream, source in zip(model.streams, sources, strict=True)
    ]
    # A stream's sessions are numbered from 0: count on, so that no two streams share one.
    first = 0
    for of_stream in drawn:
        of_stream["session"] += first
        first = of_stream["session"].max(initial=first - 1) + 1
    order = np.argsort(np.concatenate([of_stream["arrival_s"] for of_stream in drawn]), kind="stable")
    if len(order) == 0:
        raise InputError(f"workload '{model.name}': no request was drawn; raise the rate or the duration")
    columns: dict[str, Any] = {  # what the streams hold goes column by column: at no time is all of it there twice
        column: np.concatenate([of_stream.pop(column) for of_stream in drawn])[order] for column in list(drawn[0])
    }
    if all(stream.sessions is None for stream in model.streams):
        del columns["session"]
    if np.isnan(columns["elapsed_s"]).all():
        del columns["elapsed_s"]
    if not columns["output_is_limit"].any():
        del columns["output_is_limit"]
    return make_trace(model.name, duration_s=model.duration_s, model_names=names, **columns)


def _draw_stream(
    stream: Stream, span_s: tuple[float, float], names: tuple[str, ...], rng: np.random.Generator
) -> dict[str, Any]:
    """The columns of one stream's requests; the rows of a session in order of its turns."""
    start_s = draw_process(stream.arrivals, *span_s, rng)
    session = np.arange(len(start_s))
    if stream.sessions is not None:
        session = draw_turns(stream.sessions, len(start_s), rng)
    count = len(session)
    prompt_tokens = draw_lengths(stream.prompt_tokens, count, rng)
    output_tokens = draw_outputs(stream.output_tokens, count, rng)
    model = _draw_models(stream.model_shares, names, len(start_s), rng)[session]
    failed = rng.random(count) < stream.failed_fraction if stream.failed_fraction else np.zeros(count, dtype=np.bool_)
    output_tokens[failed] = 0
    arrival_s = start_s
    if stream.sessions is not None:
        arrival_s = draw_turn_arrivals(stream.sessions, start_s, session, output_tokens, rng)
        if stream.sessions.with_history and stream.sessions.max_prompt_tokens is not None:
            prompt_tokens = add_history(session, prompt_tokens, output_tokens, stream.sessions.max_prompt_tokens)
    columns: dict[str, Any] = {
        "arrival_s": arrival_s,
        "prompt_tokens": prompt_tokens,
        "output_tokens": output_tokens,
        "service": np.full(count, Service[stream.service.upper()], COLUMNS["service"]),
        "model": model,
        "session": session,
        "output_is_limit": ~failed & isinstance(stream.output_tokens, LeftToEngine),
    }
    if stream.sessions is not None and stream.sessions.answer_s_per_token:
        columns["elapsed_s"] = output_tokens * stream.sessions.answer_s_per_token
    else:
        columns["elapsed_s"] = np.full(count, np.nan)
    in_time = arrival_s < span_s[1]
    return columns if in_time.all() else {column: values[in_time] for column, values in columns.items()}


def _draw_models(
    shares: dict[str, float], names: tuple[str, ...], count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Which model each session asks for, as an index into `names`."""
    places = np.array([names.index(name) for name in shares])
    if len(places) == 1:
        return np.full(count, places[0])
    reached = np.cumsum(list(shares.values()))
    return places[np.searchsorted(reached / reached[-1], rng.random(count), side="right")]


def _expected_of(stream: Stream, duration_s: float) -> float:
    """The mean number of requests of a stream.

    Raises:
        ValueError: its span or its process is impossible within the model's duration.
    """
    turns = 1.0 if stream.sessions is None else mean_length(stream.sessions.turns)
    return turns * expected_arrivals(stream.arrivals, *_span_s(stream, duration_s))


def _span_s(stream: Stream, duration_s: float) -> tuple[float, float]:
    """When the stream lives.

    Raises:
        ValueError: not within the model's duration.
    """
    end_s = duration_s if stream.end_s is None else stream.end_s
    if not stream.start_s < end_s <= duration_s:
        raise ValueError(f"start_s {stream.start_s:g}, end_s {end_s:g}; want 0 <= start < end <= {duration_s:g}")
    return stream.start_s, end_s
