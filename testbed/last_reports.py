"""The wait after a replay for what engines still tell of its requests."""

import time

from testbed.progress import TerminalProgress

LAST_REPORTS = "waiting for the engines' last reports"
# A request that was cut off is in its engine's next report, or where that was under way already in the one after.
_REPORTS = 2
# Who has interrupted a run waits no longer than this.
_LONGEST_AFTER_INTERRUPT_S = 10.0


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
