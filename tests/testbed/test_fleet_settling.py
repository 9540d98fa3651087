"""How long a fleet is watched after a replay, and what ends the wait."""

import io
import time
from typing import Any

import pytest
from rich.console import Console

from testbed import fleet_settling
from testbed.fleet_settling import last_reports_epoch_s, wait_until, watch_fleet_settle
from testbed.progress import TerminalProgress


@pytest.mark.parametrize(("interval_s", "whole_s", "interrupted_s"), [(0.5, 1, 1), (5, 10, 10), (60, 120, 10)])
def test_two_reports_are_waited_for_but_not_long_by_who_has_interrupted(
    interval_s: float, whole_s: float, interrupted_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_settling.time, "time", lambda: 1000.0)
    assert last_reports_epoch_s(interval_s, is_interrupted=False) == 1000 + whole_s
    assert last_reports_epoch_s(interval_s, is_interrupted=True) == 1000 + interrupted_s


def test_an_interrupt_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour is left; the first pause is interrupted."""

    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fleet_settling.time, "sleep", interrupted)
    with TerminalProgress(Console(file=io.StringIO()), "a stage") as progress:
        wait_until(time.time() + 3600, "waiting", progress)


def test_the_wait_ends_at_its_instant() -> None:
    with TerminalProgress(Console(file=io.StringIO()), "a stage") as progress:
        end_epoch_s = time.time() + 0.1
        wait_until(end_epoch_s, "waiting", progress)
        assert time.time() >= end_epoch_s


@pytest.mark.parametrize(
    ("settled_s", "is_interrupted", "until_s", "stage"),
    [
        (1030.0, False, 1030.0, "watching the fleet settle"),
        (1030.0, True, 1004.0, "waiting for the engines' last reports"),
        (1001.0, False, 1004.0, "waiting for the engines' last reports"),
    ],
)
def test_a_fleet_is_watched_for_its_time_and_at_least_for_two_reports(
    settled_s: float, is_interrupted: bool, until_s: float, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[Any] = []
    monkeypatch.setattr(fleet_settling.time, "time", lambda: 1000.0)
    monkeypatch.setattr(fleet_settling, "wait_until", lambda end_s, stage, _progress: waits.append((end_s, stage)))
    with TerminalProgress(Console(file=io.StringIO()), "a stage") as progress:
        watch_fleet_settle(2.0, settled_s, progress, is_interrupted=is_interrupted)
    assert waits == [(until_s, stage)]
