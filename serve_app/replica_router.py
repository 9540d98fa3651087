"""Serve's request router for the engine deployment: a request goes to the replica that the ingress chose for it.

It extends Serve's public (alpha) `RequestRouter`. Serve pushes every change of the ready replicas to it, and it drops
a dead replica at the first failed call: it is the freshest public source of which replicas are ready, so it also
tells the ingress. Serve's own routers choose by cached queue lengths: of nine requests sent at once to three idle
replicas, one replica got one and the others four each.
"""

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from serve_app import ready_replicas


class ChosenReplicaRouter(RequestRouter):  # type: ignore[misc]
    """Takes the replica named in `EngineCall.replica_id`, and any other one only where that one cannot be had."""

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """The chosen replica, then the others."""
        call = pending_request.args[0] if pending_request and pending_request.args else None
        chosen_id = getattr(call, "replica_id", None)
        chosen = [replica for replica in candidate_replicas if replica.replica_id.unique_id == chosen_id]
        others = [replica for replica in candidate_replicas if replica.replica_id.unique_id != chosen_id]
        return [rank for rank in (chosen, others) if rank]

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Take in the ready replicas that Serve's controller knows of."""
        super().update_replicas(replicas)
        self._publish()

    def on_replica_actor_died(self, replica_id: ReplicaID) -> None:
        """Drop a replica whose call failed because its process is gone."""
        super().on_replica_actor_died(replica_id)
        self._publish()

    def _publish(self) -> None:
        ids = frozenset(replica_id.unique_id for replica_id in self.curr_replicas)
        ready_replicas.publish(self._deployment_id.app_name, self._deployment_id.name, ids)
