"""One line in the terminal that says what a run is doing and how far it is."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from loadgen.crew import ReplayProgress


def replay_figures(state: ReplayProgress) -> str:
    """The line of figures beside the bar while a trace is replayed."""
    ttft = "" if state.ttft_p50_s is None else f" · TTFT p50 {1000 * state.ttft_p50_s:.0f} ms"
    failed = sum(state.failed.values())
    return f"{state.sent} of {state.planned} sent · {state.ok} ok · {failed} failed{ttft}"


class TerminalProgress:
    """A progress bar with a changing title and a line of figures; a context manager.

    Where the output is no terminal, each new stage is printed once, so that a log stays readable.
    """

    def __init__(self, console: Console, stage: str) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[figures]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(stage, total=None, figures="")
        self._stage = stage

    def __enter__(self) -> Self:
        self._bar.start()
        self._announce()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def stage(self, stage: str) -> None:
        """Begin another stage, of unknown length until the first `update`."""
        if stage == self._stage:
            return
        self._stage = stage
        self._bar.reset(self._task, description=stage, total=None, figures="")
        self._announce()

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self._console.print(line, soft_wrap=True)

    def update(self, done: float, total: float, figures: str = "") -> None:
        """Show that `done` of `total` is done, with a short line of figures."""
        self._bar.update(self._task, completed=done, total=total, figures=figures)

    def _announce(self) -> None:
        if not self._console.is_terminal:
            self._console.print(f"{self._stage} …")
