"""Which part of a trace is used and how it is scaled: the same keys in experiments and on the command line."""

from collections.abc import Mapping
from typing import Literal, Self, TypeVar

import numpy as np
from pydantic import PositiveInt, ValidationError, model_validator

from loadgen.errors import InputError
from loadgen.scaling import with_rate_factor
from loadgen.strict_config import NonNegative, Positive, StrictModel
from loadgen.trace import Service, Trace

ServiceLabel = Literal["conversation", "api"]


class Selection(StrictModel):
    """The part of a trace that is used, in the order in which it is taken.

    Attributes:
        start_s, limit_s: the window, in the trace's own time; None = to its end.
        service, model_name: only the requests of this service, for this model of the trace; None = all.
        rate_factor: the traffic of so many times as many users (`loadgen.scaling`).
        rate_per_s: the same, so that so many requests come in a second of the run on average; in place of a factor.
        max_prompt_tokens, max_output_tokens: longer requests are cut to this.
        speed: played so many times faster.
    """

    start_s: NonNegative = 0.0
    limit_s: Positive | None = None
    service: ServiceLabel | None = None
    model_name: str | None = None
    rate_factor: Positive = 1.0
    rate_per_s: Positive | None = None
    max_prompt_tokens: PositiveInt | None = None
    max_output_tokens: PositiveInt | None = None
    speed: Positive = 1.0

    @model_validator(mode="after")
    def _check_one_rate(self) -> Self:
        if self.rate_per_s is not None and self.rate_factor != 1:
            raise ValueError("give a rate factor or a rate per second, not both")
        return self


AnySelection = TypeVar("AnySelection", bound=Selection)


def with_options(selection: AnySelection, options: Mapping[str, object]) -> AnySelection:
    """The selection with what the command line gives in its place; keys are those of `Selection`, None = not given.

    Raises:
        InputError: a value is out of its range; names the option.
    """
    given = {key: value for key, value in options.items() if value is not None}
    for key, value in given.items():
        try:
            Selection.model_validate({key: value})
        except ValidationError as error:
            message = error.errors()[0]["msg"]
            option = "--" + key.removesuffix("_per_s").replace("_", "-")
            raise InputError(f"{option}: {message[0].lower()}{message[1:]}, got {value}") from error
    if "rate_per_s" in given and "rate_factor" in given:
        raise InputError("--rate and --rate-factor: give one of them")
    if "rate_per_s" in given:
        given["rate_factor"] = 1.0
    elif "rate_factor" in given:
        given["rate_per_s"] = None
    return selection.model_copy(update=given)


def select(trace: Trace, selection: Selection, rng: np.random.Generator) -> Trace:
    """The part of the trace that is selected, scaled; `rng` is drawn from only where the rate factor is not 1.

    Raises:
        InputError: the window is outside the recording, the trace has no such model, or no request is left.
    """
    end_s = trace.duration_s if selection.limit_s is None else selection.start_s + selection.limit_s
    chosen = trace.window(selection.start_s, end_s)
    if selection.service is not None:
        chosen = chosen.of_service(Service[selection.service.upper()])
    if selection.model_name is not None:
        chosen = chosen.of_model(selection.model_name)
    chosen = with_rate_factor(chosen, _rate_factor(chosen, selection), rng)
    if len(chosen) == 0:
        raise InputError(
            f"trace '{trace.name}': no request is left {_described(selection, end_s)}; widen the selection"
        )
    return chosen.capped(selection.max_prompt_tokens, selection.max_output_tokens).sped_up(selection.speed)


def _rate_factor(trace: Trace, selection: Selection) -> float:
    """How many times as many users; 1 where there is no request to go by."""
    if selection.rate_per_s is None or len(trace) == 0:
        return selection.rate_factor
    return selection.rate_per_s / selection.speed * trace.duration_s / len(trace)


def _described(selection: Selection, end_s: float) -> str:
    """The conditions that can leave no request, in words."""
    words = f"between {selection.start_s:g} s and {end_s:g} s"
    if selection.service is not None:
        words += f", service {selection.service}"
    if selection.model_name is not None:
        words += f", model '{selection.model_name}'"
    return words if selection.rate_factor == 1 else f"{words}, rate_factor {selection.rate_factor:g}"
