"""The experiment file: which traffic meets which fleet. `simulate` and `run` take the same one."""

from pathlib import Path
from typing import Self

from pydantic import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from loadgen.strict_config import StrictModel
from serve_app.config import ForecasterSettings, PolicySettings


class WorkloadSettings(StrictModel):
    """The traffic: a trace file or a workload model, the part of it that is used, and how fast it is played.

    Attributes:
        trace: a trace in a known format (detected by its header unless `format` names it).
        model: a workload model's YAML; it is drawn with the experiment's seed.
        start_s, limit_s: the window of the trace, in its own time.
        speed: the window is played so many times faster.
        max_prompt_tokens, max_output_tokens: longer requests are cut to this.
    """

    trace: Path | None = None
    model: Path | None = None
    format: str = "auto"
    start_s: NonNegativeFloat = 0.0
    limit_s: PositiveFloat | None = None
    speed: PositiveFloat = 1.0
    max_prompt_tokens: PositiveInt | None = None
    max_output_tokens: PositiveInt | None = None

    @model_validator(mode="after")
    def _check_not_both(self) -> Self:
        if self.trace is not None and self.model is not None:
            raise ValueError("give a trace or a model, not both")
        return self


class ReplaySettings(StrictModel):
    """The load generator of a live run: Ray actors that share the trace, each with an equal part."""

    actors: PositiveInt = 1


class ExperimentConfig(StrictModel):
    """One experiment. Paths are relative to the experiment file.

    Attributes:
        serve: the Serve config file whose application is simulated or deployed.
        policy, forecaster: replace those of the Serve config.
        settle_s: the fleet is watched for so long after the last request, to see it shrink.
    """

    name: str
    seed: NonNegativeInt
    workload: WorkloadSettings
    serve: Path
    policy: PolicySettings | None = None
    forecaster: ForecasterSettings | None = None
    replay: ReplaySettings = ReplaySettings()
    settle_s: NonNegativeFloat = 30.0
