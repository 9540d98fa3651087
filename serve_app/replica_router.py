"""Serve's request router for the engine deployment: the least loaded replica takes the next request.

It extends Serve's public (alpha) `RequestRouter`. Serve pushes every change of the ready replicas to it, and it drops
a dead replica at the first failed call: it is the freshest public source of which replicas are ready, so it also
tells the ingress.
"""

from ray.serve.request_router import FIFOMixin, PendingRequest, ReplicaID, RequestRouter, RunningReplica

from serve_app import ready_replicas


class LeastLoadedRouter(FIFOMixin, RequestRouter):  # type: ignore[misc]
    """Ranks all replicas alike: Serve then takes the one with the fewest requests, as the fleet simulator does."""

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,  # noqa: ARG002 - part of Serve's interface
    ) -> list[list[RunningReplica]]:
        """One rank with every replica."""
        return [candidate_replicas] if candidate_replicas else []

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Take in the ready replicas that Serve's controller knows of."""
        super().update_replicas(replicas)
        self._publish()

    def on_replica_actor_died(self, replica_id: ReplicaID) -> None:
        """Drop a replica whose call failed because its process is gone."""
        super().on_replica_actor_died(replica_id)
        self._publish()

    def _publish(self) -> None:
        ids = list(self.curr_replicas)
        unique = frozenset(replica_id.unique_id for replica_id in ids)
        ready_replicas.publish(self._deployment_id.app_name, self._deployment_id.name, unique)
