"""A Ray to run on: the cluster that is there, else one on loopback that ends with the run."""

import atexit
import contextlib
import io
import logging
import math
import os
import socket
import sys
from collections.abc import Collection, Iterator
from typing import Any, TextIO

import ray

from loadgen.errors import InputError
from testbed.interruption import keeps_sigterm
from testbed.own_processes import OwnProcess, children_of, end_all, with_descendants
from testbed.within import within

# Ray prints these to the driver's stdout in ordinary runs, and no setting turns them off: more processes than
# processors are what a fleet of light replicas is, and Serve's controller ends in the middle of being asked to.
HARMLESS_NOTICES = ("worker processes have been started on node", "Task ServeController.graceful_shutdown failed")
_CONNECT_TIMEOUT_S = 5.0
# Ray ends within seconds, but waits for ever for a process of its own that is frozen.
_SHUTDOWN_TIMEOUT_S = 30.0
# Then the processes of actors end by themselves; those that are frozen do not.
_ENDING_TIMEOUT_S = 5.0


@contextlib.contextmanager
def ray_cluster(*, needed_cpus: float) -> Iterator[None]:
    """Use the cluster that RAY_ADDRESS names or `ray start` started; else start one on loopback, and end it.

    `needed_cpus` are logical: on a small machine the processes share the real processors.

    Raises:
        InputError: nobody listens at RAY_ADDRESS, or Ray does not start.
    """
    _check_address(os.environ.get("RAY_ADDRESS", ""))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    before = children_of(os.getpid())
    with contextlib.redirect_stdout(_WithoutNotices(sys.stdout)):
        try:
            with keeps_sigterm():
                _start_or_join(needed_cpus)
        except BaseException as error:
            end_all(with_descendants(children_of(os.getpid()) - before), patience_s=0.0)
            if not isinstance(error, Exception):
                raise
            said = str(error).strip().split("\n", 1)[0]
            raise InputError(
                f"Ray: did not start ({said}); see that the machine has memory and is not overloaded, then start again"
            ) from error
        own = children_of(os.getpid()) - before  # of a cluster that was there, none
        try:
            yield
        finally:
            _shut_down(with_descendants(own))


def _start_or_join(needed_cpus: float) -> None:
    """Ray gives up by itself, with an exception of one kind or another, where its processes do not answer."""
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        ray.init(
            num_cpus=max(os.cpu_count() or 1, math.ceil(needed_cpus)),
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            **quiet,
        )
    except ValueError:  # Ray's answer where it finds a cluster to connect to: its resources are given already
        ray.init(**quiet)


def _shut_down(processes: Collection[OwnProcess]) -> None:
    """End Ray and its processes, whichever of them is frozen."""
    try:
        within(_SHUTDOWN_TIMEOUT_S, ray.shutdown)
    except TimeoutError:
        atexit.unregister(ray.shutdown)  # it would wait again
        end_all(processes, patience_s=0.0)
    else:
        end_all(processes, _ENDING_TIMEOUT_S)


def _check_address(address: str) -> None:
    """Connect once to the cluster that 'host:port' names: Ray would try for two minutes, and end in a traceback."""
    host, _, port = address.rpartition(":")
    if not host or "://" in address or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"RAY_ADDRESS: names {address}, where no Ray cluster answers ({error}); start one with "
            "`ray start --head`, or unset it, and one is started here"
        ) from error


class _WithoutNotices(io.TextIOBase):
    """A text stream that drops the harmless notices and passes on all else."""

    def __init__(self, stream: TextIO) -> None:
        # Where a progress bar stands in for stdout, its console looks for the true one by this name.
        self.rich_proxied_file = getattr(stream, "rich_proxied_file", stream)
        self._stream = stream
        self._dropped = False

    def write(self, text: str) -> int:
        is_rest_of_notice = self._dropped and text == "\n"  # `print` writes the end of a line by itself
        self._dropped = any(notice in text for notice in HARMLESS_NOTICES)
        if not self._dropped and not is_rest_of_notice:
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        # Ray asks again when the process ends: the stream may be closed by then.
        return not self._stream.closed and self._stream.isatty()
