"""What the terminal shows of a run: a table where somebody watches, a few lines where a file is written."""

import io

import pytest
from rich.console import Console

from loadgen.replay_progress import ReplayProgress
from testbed import progress
from testbed.progress import TerminalProgress, replay_figures

STATE = ReplayProgress(
    now_s=12.0,
    planned=2000,
    offered=1300,
    sent=1290,
    finished=1200,
    ok=1150,
    failed={"queue_full": 10, "stream_cut": 40},
    ttft_p50_s=0.0521,
    ttft_p99_s=1.25,
    lateness_p99_s=None,
)


def test_the_figures_say_what_is_offered_sent_on_its_way_and_failed_and_why() -> None:
    assert replay_figures(STATE, "3 ready, 4 wanted") == {
        "offered": "1,300 of 2,000",
        "sent": "1,290",
        "in flight": "90",
        "ok": "1,150",
        "failed": "50 (40 stream cut, 10 queue full)",
        "TTFT p50 / p99": "52 ms / 1,250 ms",
        "lateness p99": "-",
        "replicas": "3 ready, 4 wanted",
    }
    assert "replicas" not in replay_figures(STATE)


def test_a_terminal_shows_the_figures_while_the_run_goes_on() -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=100, color_system=None)
    with TerminalProgress(console, "replaying") as shown:
        shown.show(12.0, 60.0, replay_figures(STATE))
        shown._live.refresh()
        said = output.getvalue()
    assert "replaying" in said
    assert "20 %" in said
    assert "in flight" in said
    assert "50 (40 stream cut, 10 queue full)" in said


def test_a_log_has_a_line_for_each_stage_and_the_figures_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now_s[0])
    output = io.StringIO()
    console = Console(file=output, width=40)
    with TerminalProgress(console, "starting") as shown:
        shown.stage("replaying")
        for _ in range(100):
            now_s[0] += 0.5
            shown.show(now_s[0] - 100.0, 60.0, {"sent": "7", "ok": "6"})
        shown.update(1, 2)
    assert output.getvalue().splitlines() == ["starting …", "replaying …", "30 of 60 s: sent 7 · ok 6"]


def test_figures_of_one_stage_are_gone_in_the_next() -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=100, color_system=None)
    with TerminalProgress(console, "replaying") as shown:
        shown.show(1.0, 2.0, replay_figures(STATE))
        shown.stage("writing the report")
        before = len(output.getvalue())
        shown._live.refresh()
        assert "in flight" not in output.getvalue()[before:]


def test_a_share_is_shown_where_it_is_known_of_how_much_and_a_stage_names_the_part_it_belongs_to() -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=100, color_system=None)
    with TerminalProgress(console, "starting") as shown:
        shown._live.refresh()
        assert "%" not in output.getvalue()
        shown.within("step 2, 8 requests/s")
        shown.stage("replaying")
        shown.update(1, 4)
        shown._live.refresh()
    assert "step 2, 8 requests/s: replaying" in output.getvalue()
    assert "25 %" in output.getvalue()
