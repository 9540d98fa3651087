"""The wait after a replay: for what engines still tell of its requests, and to see the fleet shrink."""

import time

from testbed.progress import TerminalProgress

# A request that was cut off is in its engine's next report, or where that was under way already in the one after.
_REPORTS = 2
# Who has interrupted a run waits no longer than this.
_LONGEST_AFTER_INTERRUPT_S = 10.0


def watch_fleet_settle(
    interval_s: float, settled_epoch_s: float, progress: TerminalProgress, *, is_interrupted: bool
) -> None:
    """Wait until the fleet has had its time to shrink, and at least for the last reports of its engines.

    Args:
        interval_s: engines report once in so long.
        settled_epoch_s: until when the fleet is watched; who has interrupted the run does not wait for that.
    """
    told_epoch_s = last_reports_epoch_s(interval_s, is_interrupted=is_interrupted)
    if is_interrupted or told_epoch_s >= settled_epoch_s:
        wait_until(told_epoch_s, "waiting for the engines' last reports", progress)
    else:
        wait_until(settled_epoch_s, "watching the fleet settle", progress)


def last_reports_epoch_s(interval_s: float, *, is_interrupted: bool) -> float:
    """Until when to wait from now on, where engines report once in `interval_s`."""
    wait_s = _REPORTS * interval_s
    return time.time() + (min(wait_s, _LONGEST_AFTER_INTERRUPT_S) if is_interrupted else wait_s)


def wait_until(end_epoch_s: float, stage: str, progress: TerminalProgress) -> None:
    """Wait, showing how long it still takes. Ctrl-C ends it early."""
    progress.stage(stage)
    first_s = time.time()
    try:
        while (now_s := time.time()) < end_epoch_s:
            progress.update(now_s - first_s, end_epoch_s - first_s)
            time.sleep(min(0.5, end_epoch_s - now_s))
    except KeyboardInterrupt:
        return
