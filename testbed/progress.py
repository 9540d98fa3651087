"""What a run is doing, in the terminal: a bar with how far it is, and under it a table of figures while it sends."""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from loadgen.replay_progress import ReplayProgress

_REFRESH_PER_S = 4
# Where the output is a file, a line now and then says the same.
_LINE_INTERVAL_S = 30.0


def replay_figures(state: ReplayProgress, fleet: str | None = None) -> dict[str, str]:
    """The figures of a replay by name; `fleet` says how many replicas there are, where that is known."""
    failed = sum(state.failed.values())
    by_count = sorted(state.failed.items(), key=lambda item: -item[1])
    causes = ", ".join(f"{count:,} {cause.replace('_', ' ')}" for cause, count in by_count)
    figures = {
        "offered": f"{state.offered:,} of {state.planned:,}",
        "sent": f"{state.sent:,}",
        "in flight": f"{max(0, state.sent - state.finished):,}",
        "ok": f"{state.ok:,}",
        "failed": f"{failed:,} ({causes})" if failed else "0",
        "TTFT p50 / p99": f"{_milliseconds(state.ttft_p50_s)} / {_milliseconds(state.ttft_p99_s)}",
        "lateness p99": _milliseconds(state.lateness_p99_s),
    }
    return figures if fleet is None else {**figures, "replicas": fleet}


class _Share(ProgressColumn):
    """How much is done, where it is known of how much."""

    def render(self, task: Task) -> Text:
        return Text("     " if task.total is None else f"{task.percentage:>3.0f} %")


class TerminalProgress:
    """A progress bar with a changing title, and a table of figures below; a context manager.

    Where the output is no terminal, each new stage is printed once and the figures every half a minute, so that a log
    stays readable.
    """

    def __init__(self, console: Console, stage: str) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=30),
            _Share(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[figures]}"),
            console=console,
        )
        self._task = self._bar.add_task(stage, total=None, figures="")
        self._stage = stage
        self._part = ""
        self._figures: Mapping[str, str] = {}
        self._printed_s = time.monotonic()
        self._live = Live(
            get_renderable=self._render, console=console, refresh_per_second=_REFRESH_PER_S, transient=True
        )

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        self._announce()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()

    def within(self, part: str) -> None:
        """Name the part of the work, such as a run of several, that the stages belong to from now on."""
        self._part = f"{part}: "

    def stage(self, stage: str) -> None:
        """Begin another stage, of unknown length until the first `update`."""
        stage = f"{self._part}{stage}"
        if stage == self._stage:
            return
        self._stage = stage
        self._figures = {}
        self._printed_s = time.monotonic()
        self._bar.reset(self._task, description=stage, total=None, figures="")
        self._announce()

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self._console.print(line, soft_wrap=True)

    def update(self, done: float, total: float, figures: str = "") -> None:
        """Show that `done` of `total` is done, with a short line of figures."""
        self._bar.update(self._task, completed=done, total=total, figures=figures)

    def show(self, done: float, total: float, figures: Mapping[str, str]) -> None:
        """Show that `done` of `total` is done, with figures by name."""
        self.update(done, total)
        self._figures = figures
        if not self._console.is_terminal and time.monotonic() >= self._printed_s + _LINE_INTERVAL_S:
            self._printed_s = time.monotonic()
            told = " · ".join(f"{name} {value}" for name, value in figures.items())
            self._console.print(f"{done:.0f} of {total:.0f} s: {told}", soft_wrap=True)

    def _render(self) -> RenderableType:
        if not self._figures:
            return self._bar
        table = Table.grid(padding=(0, 2))
        for name, value in self._figures.items():
            table.add_row(f"  [dim]{name}", value)
        return Group(self._bar, table)

    def _announce(self) -> None:
        if not self._console.is_terminal:
            self._console.print(f"{self._stage} …")


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1000 * seconds:,.0f} ms"
