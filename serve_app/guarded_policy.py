"""A policy that cannot hurt its caller: what it raises, returns or how long it thinks becomes one kind of error."""

import importlib
import math
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from autoscaler.interface import ClusterSnapshot, Policy, ScalingDecision
from autoscaler.policies import POLICIES_WITH_DELAYS, make_policy, with_fleet_defaults
from autoscaler.policies.stabilized import Stabilized
from loadgen.errors import InputError
from serve_app.config import AppConfig


class PolicyError(Exception):
    """A policy gave no usable decision; the message is one line for the log and the record."""


class GuardedPolicy:
    """Asks a policy in a daemon thread of its own and waits for `timeout_s` at most.

    The thread cannot be stopped. While it is still busy with an old snapshot, every new question fails at once, so
    that a slow policy is never asked twice at the same time; its late answer is thrown away.
    """

    def __init__(self, build: Callable[[], Policy], timeout_s: float) -> None:
        self._build = build
        self._timeout_s = timeout_s
        self._questions: queue.SimpleQueue[tuple[ClusterSnapshot, Future[ScalingDecision]] | None] = queue.SimpleQueue()
        self._overdue: Future[ScalingDecision] | None = None
        self._asked_at_s = 0.0
        threading.Thread(target=self._answer_forever, name="burstscale-policy", daemon=True).start()

    @property
    def is_busy(self) -> bool:
        """Whether the policy is still busy with a question that was given up."""
        return self._overdue is not None and not self._overdue.done()

    def decide(self, cluster: ClusterSnapshot) -> ScalingDecision:
        """The policy's decision, checked.

        Raises:
            PolicyError: it raised, answered with something else than a decision, or took too long.
        """
        if self.is_busy:
            raise PolicyError(f"the policy has been thinking for {time.monotonic() - self._asked_at_s:.1f} s")
        self._overdue = None
        self._asked_at_s = time.monotonic()
        answer: Future[ScalingDecision] = Future()
        self._questions.put((cluster, answer))
        try:
            error = answer.exception(self._timeout_s)  # not result(): it would raise a policy's SystemExit right here
        except TimeoutError:
            self._overdue = answer
            raise PolicyError(f"the policy took longer than {self._timeout_s:g} s") from None
        if error is not None:
            raise PolicyError(f"the policy raised {type(error).__name__}: {error}") from error
        return checked_decision(answer.result())

    def close(self) -> None:
        """End the thread once it is idle."""
        self._questions.put(None)

    def _answer_forever(self) -> None:
        policy: Policy | None = None
        while (question := self._questions.get()) is not None:
            cluster, answer = question
            try:
                if policy is None:
                    policy = self._build()
                answer.set_result(policy.decide(cluster))
            except BaseException as error:  # a policy may even call sys.exit
                answer.set_exception(error)


def checked_decision(decision: object) -> ScalingDecision:
    """The decision with a whole, non-negative number of replicas.

    Raises:
        PolicyError: it is no decision, or its number is NaN, infinite, negative or no number.
    """
    if not isinstance(decision, ScalingDecision):
        raise PolicyError(f"the policy answered with {decision!r}, want a ScalingDecision")
    try:
        replicas = float(decision.target_replicas)
    except (TypeError, ValueError):
        replicas = math.nan
    if not (math.isfinite(replicas) and replicas >= 0):
        raise PolicyError(f"the policy asked for {decision.target_replicas!r} replicas, want an integer >= 0")
    return ScalingDecision(math.ceil(replicas), str(decision.reason))


def build_policy(config: AppConfig) -> Policy:
    """The policy of an application with its delays: one of the table, or a class of yours as 'module:Class'.

    Raises:
        InputError: there is no such policy or class, or it does not take the parameters.
    """
    name, params, control = config.policy.name, config.policy.params, config.control
    if ":" in name:
        policy = _import_policy(name, dict(params))
    else:
        filled = with_fleet_defaults(
            name,
            params,
            cold_start_s=config.fleet.planned_cold_start_s,
            period_s=control.period_s,
            initial_replicas=config.fleet.initial_replicas,
        )
        policy = make_policy(name, **filled)
    if name in POLICIES_WITH_DELAYS:
        return policy
    return Stabilized(policy, control.up_delay_s, control.down_delay_s)


def _import_policy(path: str, params: dict[str, object]) -> Policy:
    module_name, _, class_name = path.partition(":")
    try:
        policy_class = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"policy {path!r}: cannot be imported ({error}); want 'module:Class'") from error
    try:
        policy: Policy = policy_class(**params)
    except TypeError as error:
        raise InputError(f"policy {path!r}: does not take its parameters ({error})") from error
    return policy
