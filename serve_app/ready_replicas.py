"""Which engine replicas are ready, as this process's request router was last told by Serve's controller.

The router (`serve_app.replica_router`) lives in another thread and its class is pickled by value, so the two meet in
this module: the router publishes, the ingress listens.
"""

import threading
from collections.abc import Callable

Listener = Callable[[frozenset[str]], None]

_lock = threading.Lock()
_ready: dict[tuple[str, str], frozenset[str]] = {}
_listeners: dict[tuple[str, str], list[Listener]] = {}


def publish(app_name: str, deployment: str, replica_ids: frozenset[str]) -> None:
    """Replace the ready replicas of a deployment and tell the listeners, in the caller's thread."""
    with _lock:
        _ready[app_name, deployment] = replica_ids
        listeners = list(_listeners.get((app_name, deployment), ()))
    for listener in listeners:
        listener(replica_ids)


def listen(app_name: str, deployment: str, listener: Listener) -> None:
    """Call `listener` with the ready replicas now, if they are known, and at every change."""
    with _lock:
        _listeners.setdefault((app_name, deployment), []).append(listener)
        known = _ready.get((app_name, deployment))
    if known is not None:
        listener(known)
