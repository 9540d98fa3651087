"""Work whose end is up to somebody else, waited for within a time that is bounded."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Given = TypeVar("Given")


def within(limit_s: float, work: Callable[[], Given]) -> Given:
    """What `work` gives or raises; it is done in a thread of its own, which is left behind where it takes too long.

    Raises:
        TimeoutError: it has not ended after `limit_s`.
    """
    came: Future[Given] = Future()

    def do() -> None:
        try:
            came.set_result(work())
        except BaseException as error:
            came.set_exception(error)

    threading.Thread(target=do, name="within", daemon=True).start()
    try:
        return came.result(limit_s)
    except TimeoutError as error:
        if came.done():  # `work` itself has raised it
            raise
        raise TimeoutError(f"no end within {limit_s:g} s") from error
