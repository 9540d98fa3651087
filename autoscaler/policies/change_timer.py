"""Since when a change of the number of replicas has been asked for without a break."""

from dataclasses import dataclass

# Differences of large instants fall short of the true interval by rounding: 400 s can come out as 399.9999999999999 s.
ROUNDING_S = 1e-6


@dataclass(slots=True)
class ChangeTimer:
    """Since when more (direction 1) or fewer (-1) replicas have been asked for without a break.

    Measured in snapshot time, not in ticks: a slow control loop must not stretch the delay. A wait that is over starts
    anew when the target has moved, not before: the caller may hold a change back for longer, or lose it.

    Attributes:
        is_over: 1 = the wait was over when the target was `over_at_target`, else 0.
    """

    direction: int = 0
    since_s: float = 0.0
    is_over: int = 0
    over_at_target: int = 0


def waited_s(timer: ChangeTimer, asked_replicas: int, target_replicas: int, now_s: float) -> float:
    """How long the change from the target has been asked for, this moment included; 0 where none is."""
    is_made = timer.is_over == 1 and timer.over_at_target != target_replicas
    timer.is_over = 0
    direction = int(asked_replicas > target_replicas) - int(asked_replicas < target_replicas)
    if direction != timer.direction or is_made:
        timer.direction = direction
        timer.since_s = now_s
    return now_s - timer.since_s if direction != 0 else 0.0


def end_wait(timer: ChangeTimer, target_replicas: int) -> None:
    """Note that the change from this target may be made now."""
    timer.is_over = 1
    timer.over_at_target = target_replicas
