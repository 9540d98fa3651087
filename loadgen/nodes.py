"""The machines of a Ray cluster: which ones a replay is sent from, and work that is done there."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of the cluster; `is_driver` = the replay is driven from it."""

    node_id: str
    address: str
    host_name: str
    is_driver: bool


def choose_nodes(actors: int, *, spreads: bool) -> tuple[Node, ...]:
    """A node for each actor: the driver's, or every one that is alive in turn, the driver's first.

    Ray's own spreading is best effort: where it had put an actor would be known afterwards alone.
    """
    driver_id = ray.get_runtime_context().get_node_id()
    nodes = [
        Node(found["NodeID"], found["NodeManagerAddress"], found["NodeManagerHostname"], found["NodeID"] == driver_id)
        for found in ray.nodes()
        if found["Alive"]
    ]
    in_order = sorted(nodes, key=lambda node: (not node.is_driver, node.address, node.node_id))
    return tuple(islice(cycle(in_order if spreads else in_order[:1]), actors))


def on_node(node: Node) -> NodeAffinitySchedulingStrategy:
    """Run there or nowhere."""
    return NodeAffinitySchedulingStrategy(node.node_id, soft=False)


def begin_on(node: Node, work: Callable[..., Any], *arguments: Any) -> Any:
    """Have a function do its work there, once; gives what `ray.get` takes."""
    options = {"num_cpus": 0, "max_retries": 0, "scheduling_strategy": on_node(node)}
    return ray.remote(work).options(**options).remote(*arguments)
