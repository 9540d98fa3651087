"""The state of an application's replicas as Serve's controller knows it. All use of Serve's internals is in this file.

`serve.status()`, the public way, counts replicas per state but does not name them.
"""

from dataclasses import dataclass

import ray
from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE
from ray.serve.schema import ServeInstanceDetails

from autoscaler.interface import ReplicaState
from serve_app.engines.protocol import ENGINE_DEPLOYMENT

_STATES = {
    "STARTING": ReplicaState.STARTING,
    "PENDING_MIGRATION": ReplicaState.READY,
    "RECOVERING": ReplicaState.STARTING,
    "UPDATING": ReplicaState.READY,
    "RUNNING": ReplicaState.READY,
    "STOPPING": ReplicaState.DRAINING,
}


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """One replica now.

    Attributes:
        deployment: 'engine' or 'ingress'.
        started_at_s: when Serve asked for it, epoch seconds.
        process_id: None until it has a process.
    """

    replica_id: str
    deployment: str
    state: ReplicaState
    started_at_s: float
    process_id: int | None


def serve_is_running() -> bool:
    """Whether the Ray cluster that this process is connected to has a Serve controller."""
    try:
        ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
    except ValueError:
        return False
    return True


def replica_states(app_name: str, timeout_s: float = 10.0) -> list[ReplicaStatus]:
    """The replicas of an application; an empty list where it is not deployed.

    Raises:
        ray.exceptions.GetTimeoutError: Serve's controller did not answer in time.
        ValueError: Serve does not run.
    """
    controller = ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
    details = ServeInstanceDetails(**ray.get(controller.get_serve_instance_details.remote(), timeout=timeout_s))
    application = details.applications.get(app_name)
    if application is None:
        return []
    return [
        ReplicaStatus(replica.replica_id, name, _STATES[replica.state.value], replica.start_time_s, replica.pid)
        for name, deployment in application.deployments.items()
        for replica in deployment.replicas
        if replica.state.value in _STATES
    ]


def engine_states(app_name: str, timeout_s: float = 10.0) -> dict[str, ReplicaState]:
    """The states of an application's engine replicas by id; raises as `replica_states`."""
    return {
        replica.replica_id: replica.state
        for replica in replica_states(app_name, timeout_s)
        if replica.deployment == ENGINE_DEPLOYMENT
    }
