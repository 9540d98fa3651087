"""Something that is done again and again beside a run, in a thread of its own."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Repeated:
    """Calls `do` every `interval_s` in a thread, until it is closed; a context manager.

    What takes longer than an interval is not made up for. The thread has ended when the context has.
    """

    def __init__(self, do: Callable[[], None], interval_s: float, name: str) -> None:
        self._do = do
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        due_s = time.monotonic() + self._interval_s
        while not self._stop.wait(max(due_s - time.monotonic(), 0.0)):
            self._do()
            due_s = max(due_s + self._interval_s, time.monotonic())
