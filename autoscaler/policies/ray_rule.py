"""Ray Serve's rule as plain functions over numbers and arrays, for its policy and for the simulator's compiled code."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from autoscaler.policies.change_timer import ROUNDING_S, ChangeTimer, end_wait, waited_s

# The weight of a sample that has only just arrived, as Serve has it.
NEWEST_SAMPLE_S = 1e-3


class RaySettings(NamedTuple):
    """The rule's settings; names and meanings are those of `RayDefault`."""

    target_ongoing_requests: float
    upscale_delay_s: float
    downscale_delay_s: float
    upscaling_factor: float
    downscaling_factor: float
    look_back_period_s: float


class OngoingWindow(NamedTuple):
    """Samples of the ongoing requests within the look-back, the oldest first.

    Attributes:
        bounds: i64[2], the samples are in places [bounds[0], bounds[1]).
        at_s, requests: f64[room].
    """

    bounds: NDArray[np.int64]
    at_s: NDArray[np.float64]
    requests: NDArray[np.float64]


class RayStep(NamedTuple):
    """What the rule says at one instant: `wanted` without the delay, `target` with it, and the delay that is left."""

    target: int
    wanted: int
    left_s: float


def empty_window(room: int = 64) -> OngoingWindow:
    """A window without samples and room for so many."""
    return OngoingWindow(np.zeros(2, np.int64), np.zeros(room), np.zeros(room))


def with_more_room(window: OngoingWindow) -> OngoingWindow:
    """The same samples with twice the room."""
    room = len(window.at_s)
    return OngoingWindow(
        window.bounds,
        np.concatenate([window.at_s, np.zeros(room)]),
        np.concatenate([window.requests, np.zeros(room)]),
    )


def forget_old(window: OngoingWindow, until_s: float) -> bool:
    """Drop the samples up to and including `until_s`; whether there is room for one more now."""
    first, end = window.bounds[0], window.bounds[1]
    while first < end and window.at_s[first] <= until_s:
        first += 1
    if end == len(window.at_s) and first > 0:
        for place in range(first, end):
            window.at_s[place - first] = window.at_s[place]
            window.requests[place - first] = window.requests[place]
        first, end = 0, end - first
    window.bounds[0], window.bounds[1] = first, end
    return bool(end < len(window.at_s))


def mean_ongoing(window: OngoingWindow, now_s: float, ongoing: float) -> float:
    """Take in the ongoing requests and return their mean over the window, which has room for this sample.

    Each sample holds until the next one: 10 requests for 9 s, then 20 for 1 s, are 11 in the mean.
    """
    end = window.bounds[1]
    window.at_s[end], window.requests[end] = now_s, ongoing
    window.bounds[1] = end + 1
    total, held_s = 0.0, 0.0
    for place in range(window.bounds[0], end + 1):
        until_s = window.at_s[place + 1] if place < end else now_s + NEWEST_SAMPLE_S
        span_s = until_s - window.at_s[place]
        total += window.requests[place] * span_s
        held_s += span_s
    return total / held_s


def ray_step(
    settings: RaySettings, timer: ChangeTimer, ongoing: float, ready: int, target: int, now_s: float
) -> RayStep:
    """Compare the mean of ongoing requests with what the ready replicas are to carry, and hold changes back."""
    if ready == 0:
        # With requests and no replica that serves, the first is asked for at once.
        first = max(math.ceil(settings.upscaling_factor), target) if ongoing > 0 else target
        if ongoing > 0 or target > 0:
            return RayStep(first, first, 0.0)
    wanted = wanted_replicas(settings, ongoing, ready, target)
    waited = waited_s(timer, wanted, target, now_s)
    if wanted == target:
        return RayStep(target, wanted, 0.0)
    left_s = (settings.upscale_delay_s if wanted > target else settings.downscale_delay_s) - waited
    if left_s > ROUNDING_S:
        return RayStep(target, wanted, left_s)
    end_wait(timer, target)
    return RayStep(wanted if target == 1 else max(1, wanted), wanted, 0.0)


def wanted_replicas(settings: RaySettings, ongoing: float, ready: int, target: int) -> int:
    """Replicas wanted before the delay, where a factor shortens or lengthens the way from the ready ones."""
    if ready == 0:
        return target
    # In Serve's order of operations: another order can round to the other side of a whole number.
    exact = ready * (ongoing / (settings.target_ongoing_requests * ready))
    factor = settings.upscaling_factor if exact > ready else settings.downscaling_factor
    scaled = math.ceil(ready + factor * (exact - ready))
    # A factor under 1 never gets below its own rounding: 2 + 0.3 * (1 - 2) = 1.7 -> 2, for ever.
    is_stuck = math.ceil(exact) < ready and scaled == ready
    return max(0, scaled - 1 if is_stuck else scaled)
