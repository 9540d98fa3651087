"""The policy that Serve's controller calls. Serve pickles this module by value: it holds this one class only."""

import logging
from typing import Any

from ray.serve.config import AutoscalingContext

from loadgen.strict_config import parse
from serve_app.config import AppConfig
from serve_app.policy_loop import ControllerFacts, PolicyLoop


class ServePolicy:
    """Leaves the controller's facts for the control loop and returns its latest target. Never blocks, never raises.

    An exception here would stop Serve from updating this and all later applications.

    Args:
        config: the application's `AppConfig` as plain values.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self._calls = 0
        self._loop: PolicyLoop | None = None
        try:
            self._loop = PolicyLoop(parse(AppConfig, config, "policy_kwargs"))
        except Exception:
            logging.getLogger("ray.serve").exception("the policy could not be made; replicas stay")

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        """(target number of replicas, state to keep: none)."""
        try:
            self._calls += 1
            target = None
            if self._loop is not None:
                running = tuple(replica.unique_id for replica in context.running_replicas)
                target = self._loop.advise(
                    ControllerFacts(self._calls, context.app_name or "", context.target_num_replicas, running)
                )
        except Exception:
            target = None
        return (context.target_num_replicas if target is None else target), {}
