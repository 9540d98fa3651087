"""Measure a trace: everything that the BurstGPT paper measures of its own, in all and by service and model."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from loadgen.errors import InputError
from loadgen.gamma_fit import time_resolution_s
from loadgen.statistics.bursts import find_bursts
from loadgen.statistics.conversations import describe_conversations
from loadgen.statistics.description import TraceDescription, TrafficDescription
from loadgen.statistics.dispersion import measure_dispersion
from loadgen.statistics.doublings import Workdays, count_doublings, find_workdays
from loadgen.statistics.elapsed import describe_elapsed
from loadgen.statistics.failures import find_failure_outliers
from loadgen.statistics.gaps import describe_gaps
from loadgen.statistics.periodicity import measure_periodicity
from loadgen.statistics.timeline import DAY_S, busy_bin_counts, draw_timeline
from loadgen.statistics.token_lengths import describe_lengths, relate_lengths
from loadgen.trace import Service, Trace

_PEAK_BIN_S = 10.0
_LONGEST_S = 20 * 366 * DAY_S


def describe(trace: Trace) -> TraceDescription:
    """Measure a trace.

    Raises:
        InputError: the recording is longer than 20 years.

    Source: the quantities that Wang et al., "BurstGPT", arXiv 2401.17644, section III, report of their trace.
    """
    if trace.duration_s > _LONGEST_S:
        raise InputError(
            f"trace '{trace.name}': lasts {trace.duration_s:g} s, which is more than 20 years; are its times in "
            "milliseconds? Want seconds"
        )
    resolution_s = time_resolution_s(trace.arrival_s)
    has_conversation = trace.service == Service.CONVERSATION
    # People keep weekends, scripts do not.
    by_people = trace.arrival_s[has_conversation] if has_conversation.any() else trace.arrival_s
    workdays = find_workdays(by_people, trace.duration_s)
    everything = _describe_traffic(trace, resolution_s, workdays)

    def describe_part(part: Trace, whole: Trace, of_whole: TrafficDescription) -> TrafficDescription:
        """A part that is the whole is not measured anew."""
        return of_whole if len(part) == len(whole) else _describe_traffic(part, resolution_s, workdays)

    services, services_by_model = {}, {}
    for service in Service:
        part = trace.of_service(service)
        if len(part):
            of_service = services[service.label] = describe_part(part, trace, everything)
            services_by_model[service.label] = {
                name: describe_part(of_model, part, of_service) for name, of_model in _by_model(part)
            }
    models = {name: describe_part(part, trace, everything) for name, part in _by_model(trace)}
    return TraceDescription(trace.name, everything, services, models, services_by_model)


def _by_model(trace: Trace) -> Iterator[tuple[str, Trace]]:
    """The requests for each model that has any, one model at a time: millions of requests fill the memory."""
    for model in np.flatnonzero(np.bincount(trace.model)).tolist():
        yield trace.model_names[model], trace.take(np.flatnonzero(trace.model == model))


def _describe_traffic(trace: Trace, resolution_s: float, workdays: Workdays) -> TrafficDescription:
    arrival_s, duration_s = trace.arrival_s, trace.duration_s
    is_failure = trace.output_tokens == 0
    requests, failures = len(trace), int(np.count_nonzero(is_failure))
    busiest = int(busy_bin_counts(arrival_s, _PEAK_BIN_S).max(initial=0))
    known_outputs = _known_outputs(trace)
    return TrafficDescription(
        duration_s=duration_s,
        requests=requests,
        prompt_tokens=int(trace.prompt_tokens.sum(dtype=np.int64)),
        output_tokens=int(trace.output_tokens.sum(dtype=np.int64)),
        failures=failures,
        failed_fraction=failures / requests if requests else 0.0,
        outputs_left_to_engine=int(np.count_nonzero(trace.output_tokens) - np.count_nonzero(known_outputs)),
        mean_rate_per_s=requests / duration_s,
        peak_rate_per_s=busiest / min(_PEAK_BIN_S, duration_s),
        timeline=draw_timeline(trace),
        gaps=describe_gaps(arrival_s, resolution_s),
        dispersion=measure_dispersion(arrival_s, duration_s, resolution_s),
        periodicity=measure_periodicity(arrival_s, duration_s),
        doublings=count_doublings(arrival_s, duration_s, workdays),
        bursts=find_bursts(arrival_s, duration_s),
        prompt_lengths=describe_lengths(trace.prompt_tokens),
        output_lengths=describe_lengths(known_outputs),
        relation=relate_lengths(trace.prompt_tokens, known_outputs),
        failure_outliers=find_failure_outliers(arrival_s, is_failure),
        conversations=describe_conversations(trace),
        elapsed=describe_elapsed(trace),
    )


def _known_outputs(trace: Trace) -> NDArray[np.int32]:
    """The output lengths, with 0 where only a limit is known."""
    if trace.output_is_limit is None:
        return trace.output_tokens
    return np.where(trace.output_is_limit, 0, trace.output_tokens).astype(np.int32)
