"""How far predicted latencies of a real vLLM are from measured ones, over several repeats of one load."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from autoscaler.simulator.cost_model import HardwareFile

TARGET_PERCENT = {"mean": 10.0, "p90": 15.0}
FITTED_ON = "closed loop over a grid: prompts alone, decoding batches alone, prompts put to decoding batches"
HELD_OUT = (
    "open loop: arrivals in bursts (gamma, CV 1.4), log-normal prompts (median 150, mean 200 tokens), "
    "geometric answers (mean 24)"
)


@dataclass(frozen=True, slots=True)
class Repeat:
    """The held-out load once: means and p90 of TTFT, TPOT and E2E, as {"ttft": {"mean": …, "p90": …}, …}.

    Attributes:
        disturbance: how many times as long as fitted the steps of the fit rounds before and after it took, in sum.
        measured_s, predicted_s: at the engine's own interface, in this process; predicted with that disturbance.
        logged_s: replayed with each step as long as the log has it at that time: what is off then is not step time,
            but the schedule, or time outside the engine.
        step_error_percent: of its logged steps, predicted: in sum, and the mean absolute error of single steps.
    """

    disturbance: float
    measured_s: Mapping[str, Mapping[str, float]]
    predicted_s: Mapping[str, Mapping[str, float]]
    logged_s: Mapping[str, Mapping[str, float]]
    step_error_percent: Mapping[str, float]

    @property
    def errors_percent(self) -> dict[str, dict[str, float]]:
        """How far the predictions are above what was measured."""
        return _errors_percent(self.predicted_s, self.measured_s)

    @property
    def logged_errors_percent(self) -> dict[str, dict[str, float]]:
        """The same of the replay with logged steps."""
        return _errors_percent(self.logged_s, self.measured_s)


@dataclass(frozen=True, slots=True)
class VllmCheck:
    """What was fitted, and how each repeat of the held-out load was predicted from it.

    Attributes:
        outside_steps_s: of a request alone, what it spends outside the engine's steps (median); not in predictions.
    """

    engine: str
    profile: HardwareFile
    requests: int
    held_out_s: float
    outside_steps_s: float
    repeats: Sequence[Repeat]

    @property
    def errors_percent(self) -> dict[str, dict[str, float]]:
        """The median over the repeats."""
        return _medians([repeat.errors_percent for repeat in self.repeats])

    @property
    def logged_errors_percent(self) -> dict[str, dict[str, float]]:
        """The median over the repeats, where each step takes as long as it was logged."""
        return _medians([repeat.logged_errors_percent for repeat in self.repeats])

    def median_s(self, side: Literal["measured", "predicted"]) -> dict[str, dict[str, float]]:
        """The median over the repeats of what was measured, or predicted."""
        return _medians([repeat.measured_s if side == "measured" else repeat.predicted_s for repeat in self.repeats])

    @property
    def spread_percent(self) -> dict[str, dict[str, float]]:
        """How far the same load's repeats lie apart, most less least over the median: no prediction can be closer."""
        found = [repeat.measured_s for repeat in self.repeats]
        return {
            name: {
                of: 100 * float(np.ptp([one[name][of] for one in found]) / np.median([one[name][of] for one in found]))
                for of in found[0][name]
            }
            for name in found[0]
        }

    @property
    def is_within_target(self) -> bool:
        """Whether all means and all p90 are."""
        errors = self.errors_percent.values()
        return all(abs(error[of]) <= target for error in errors for of, target in TARGET_PERCENT.items())

    def as_json(self) -> dict[str, Any]:
        """Everything, as plain values."""
        return {
            "engine": self.engine,
            "fitted_on": FITTED_ON,
            "held_out": HELD_OUT,
            "held_out_requests": self.requests,
            "held_out_s": self.held_out_s,
            "outside_steps_s": self.outside_steps_s,
            "measured_s": self.median_s("measured"),
            "predicted_s": self.median_s("predicted"),
            "errors_percent": self.errors_percent,
            "logged_errors_percent": self.logged_errors_percent,
            "spread_percent": self.spread_percent,
            "target_percent": TARGET_PERCENT,
            "is_within_target": self.is_within_target,
            "repeats": [{**asdict(repeat), "errors_percent": repeat.errors_percent} for repeat in self.repeats],
            "profile": self.profile.model_dump(mode="json"),
        }


def _errors_percent(
    predicted_s: Mapping[str, Mapping[str, float]], measured_s: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, float]]:
    return {
        name: {of: 100 * (predicted_s[name][of] / seconds - 1) for of, seconds in row.items()}
        for name, row in measured_s.items()
    }


def _medians(found: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """The median of each number over several such tables."""
    return {
        name: {of: float(np.median([one[name][of] for one in found])) for of in found[0][name]} for name in found[0]
    }
