"""How long engines are waited for after a replay, and what ends the wait."""

import io
import time

import pytest
from rich.console import Console

from testbed import last_reports
from testbed.last_reports import LAST_REPORTS, last_reports_epoch_s, wait_until
from testbed.progress import TerminalProgress


@pytest.mark.parametrize(("interval_s", "whole_s", "interrupted_s"), [(0.5, 1, 1), (5, 10, 10), (60, 120, 10)])
def test_two_reports_are_waited_for_but_not_long_by_who_has_interrupted(
    interval_s: float, whole_s: float, interrupted_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(last_reports.time, "time", lambda: 1000.0)
    assert last_reports_epoch_s(interval_s, is_interrupted=False) == 1000 + whole_s
    assert last_reports_epoch_s(interval_s, is_interrupted=True) == 1000 + interrupted_s


def test_an_interrupt_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour is left; the first pause is interrupted."""

    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(last_reports.time, "sleep", interrupted)
    with TerminalProgress(Console(file=io.StringIO()), "a stage") as progress:
        wait_until(time.time() + 3600, LAST_REPORTS, progress)


def test_the_wait_ends_at_its_instant() -> None:
    with TerminalProgress(Console(file=io.StringIO()), "a stage") as progress:
        end_epoch_s = time.time() + 0.1
        wait_until(end_epoch_s, LAST_REPORTS, progress)
        assert time.time() >= end_epoch_s
