"""What `describe` finds in a trace, and its JSON form."""

from dataclasses import dataclass
from typing import Any

from loadgen.statistics.bursts import Bursts
from loadgen.statistics.conversations import Conversations
from loadgen.statistics.dispersion import Dispersion
from loadgen.statistics.doublings import Doublings
from loadgen.statistics.elapsed import ElapsedDescription
from loadgen.statistics.failures import Failures
from loadgen.statistics.gaps import GapDescription
from loadgen.statistics.periodicity import Periodicity
from loadgen.statistics.plain_values import json_text, plain
from loadgen.statistics.timeline import Timeline
from loadgen.statistics.token_lengths import LengthDescription, LengthRelation

_FOR_PLOTS = frozenset({"timeline"})


@dataclass(frozen=True, slots=True, eq=False)
class TrafficDescription:
    """One kind of traffic: all of a trace, a service, a model, or a service's requests for a model.

    Attributes:
        duration_s: of the recording, the same for every part.
        prompt_tokens, output_tokens: totals.
        failures: requests without output in the recorded system.
        failed_fraction: failures / requests; 0 without requests.
        outputs_left_to_engine: requests whose output length is only a limit; `output_tokens` counts the limit, the
            statistics of the output lengths leave them out.
        mean_rate_per_s: over the whole recording.
        peak_rate_per_s: in the busiest 10 s.
        gaps: None = fewer than three requests, or all at one instant.
        relation: prompt against output length.
        conversations: None = the sessions are not known (no session has two requests).
        elapsed: None = the elapsed times are not known.
    """

    duration_s: float
    requests: int
    prompt_tokens: int
    output_tokens: int
    failures: int
    failed_fraction: float
    outputs_left_to_engine: int
    mean_rate_per_s: float
    peak_rate_per_s: float
    timeline: Timeline
    gaps: GapDescription | None
    dispersion: Dispersion
    periodicity: Periodicity
    doublings: Doublings
    bursts: Bursts
    prompt_lengths: LengthDescription
    output_lengths: LengthDescription
    relation: LengthRelation
    failure_outliers: Failures
    conversations: Conversations | None
    elapsed: ElapsedDescription | None


@dataclass(frozen=True, slots=True, eq=False)
class TraceDescription:
    """A trace in numbers, in all and by part; only parts with requests are there.

    Attributes:
        name: the trace's.
        all: every request.
        services: by service label ('conversation', 'api').
        models: by model name.
        services_by_model: by service label, then by model name.
    """

    name: str
    all: TrafficDescription
    services: dict[str, TrafficDescription]
    models: dict[str, TrafficDescription]
    services_by_model: dict[str, dict[str, TrafficDescription]]

    def as_json(self) -> dict[str, Any]:
        """As plain values, ready for json.dumps(allow_nan=False): what is not a number is None.

        The fields of `all` stand at the top, after `name`; those of each part under the part's name. Timelines, which
        are for plots, are left out.
        """
        parts = {key: getattr(self, key) for key in ("services", "models", "services_by_model")}
        return {"name": self.name, **plain(self.all, _FOR_PLOTS), **plain(parts, _FOR_PLOTS)}

    def json_text(self) -> str:
        """`as_json` as text: a line for each value, a list being one value."""
        return json_text(self.as_json())
