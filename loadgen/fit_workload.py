"""Workload models fitted to a trace: arrivals anew in each window of time, conversations, lengths, failures."""

import numpy as np
import yaml
from numpy.typing import NDArray

from loadgen.errors import InputError
from loadgen.fit_arrivals import fit_arrivals
from loadgen.fit_lengths import fit_lengths, rounded
from loadgen.fit_sessions import fit_sessions
from loadgen.gamma_fit import time_resolution_s
from loadgen.lengths import Constant, LeftToEngine, OutputLengths
from loadgen.statistics.gaps import FIT_WINDOW_S
from loadgen.trace import Service, Trace
from loadgen.workload import Stream, WorkloadModel


def fit_workload(trace: Trace, window_s: float = FIT_WINDOW_S) -> WorkloadModel:
    """Fit a model with a stream for each service of the trace.

    Arrivals are fitted per window (`loadgen.fit_arrivals`); where the trace knows its conversations they are what
    arrives (`loadgen.fit_sessions`). Lengths, shares of the models and failures are those of the whole trace: how they
    move with time and hang together is not kept.

    Raises:
        InputError: the trace is empty, or the window is no positive number of seconds.

    Source: Wang et al., "BurstGPT", arXiv 2401.17644: Gamma gaps whose alpha and beta are fitted every 20 minutes.
    """
    if not 0 < window_s < np.inf:
        raise InputError(f"window_s is {window_s:g}, want a positive number of seconds")
    if len(trace) == 0:
        raise InputError(f"trace '{trace.name}': holds no request; there is nothing to fit")
    resolution_s = time_resolution_s(trace.arrival_s)
    services = [service for service in Service if np.any(trace.service == service)]
    streams = tuple(_fit_stream(trace.of_service(service), service, window_s, resolution_s) for service in services)
    return WorkloadModel(name=f"fitted to {trace.name}", duration_s=trace.duration_s, streams=streams)


def workload_yaml(model: WorkloadModel, comment: str) -> str:
    """A workload model as the text of its file, opened by a comment of one line."""
    values = model.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    return f"# {comment}\n" + yaml.safe_dump(values, sort_keys=False, width=120, default_flow_style=None)


def _fit_stream(trace: Trace, service: Service, window_s: float, resolution_s: float) -> Stream:
    """Fit the requests of one service."""
    requests = np.bincount(trace.model, minlength=len(trace.model_names))
    models = {name: float(count) for name, count in zip(trace.model_names, requests, strict=True) if count}
    fitted = fit_sessions(trace)
    opened_s, new_tokens = (
        (trace.arrival_s, trace.prompt_tokens) if fitted is None else (fitted.opened_s, fitted.new_tokens)
    )
    is_limit = np.zeros(len(trace), dtype=np.bool_) if trace.output_is_limit is None else trace.output_is_limit
    return Stream(
        service="conversation" if service is Service.CONVERSATION else "api",
        model=next(iter(models)) if len(models) == 1 else None,
        models=models if len(models) > 1 else None,
        arrivals=fit_arrivals(opened_s, trace.duration_s, window_s, resolution_s),
        sessions=None if fitted is None else fitted.sessions,
        prompt_tokens=fit_lengths(new_tokens),
        output_tokens=_fit_outputs(trace.output_tokens, is_limit),
        failed_fraction=_failed_fraction(trace.output_tokens, is_limit),
    )


def _fit_outputs(output_tokens: NDArray[np.int32], is_limit: NDArray[np.bool_]) -> OutputLengths:
    """Lengths of the answers that did not fail; left to the engine where the trace leaves most of them."""
    answered = output_tokens > 0
    if not answered.any():
        return Constant(distribution="constant", value=1)
    if np.mean(is_limit[answered]) > 0.5:
        return LeftToEngine(distribution="left_to_engine", limit=int(output_tokens[answered & is_limit].max()))
    return fit_lengths(output_tokens[answered])


def _failed_fraction(output_tokens: NDArray[np.int32], is_limit: NDArray[np.bool_]) -> float:
    """The share of requests without output; a stream in which all failed has one answer in a million."""
    return min(rounded(float(np.mean((output_tokens == 0) & ~is_limit))), 1 - 1e-6)
