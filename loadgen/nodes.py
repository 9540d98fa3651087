"""The machines of a Ray cluster: which ones a replay is sent from, and work that is done there."""

import hashlib
import importlib.util
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from loadgen.errors import InputError

# What is asked of a process there takes seconds, and on a machine that is overloaded its start takes a minute or two.
LONGEST_ANSWER_S = 300.0


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

    Raises:
        InputError: one that is chosen has not this code.
    """
    driver_id = ray.get_runtime_context().get_node_id()
    nodes = [
        Node(found["NodeID"], found["NodeManagerAddress"], found["NodeManagerHostname"], found["NodeID"] == driver_id)
        for found in ray.nodes()
        if found["Alive"]
    ]
    in_order = sorted(nodes, key=lambda node: (not node.is_driver, node.address, node.node_id))
    chosen = in_order[:actors] if spreads else in_order[:1]
    _check_code(chosen[1:])
    return tuple(islice(cycle(chosen), actors))


def _check_code(nodes: Iterable[Node]) -> None:
    """Compare the code there with the driver's: what is sent and measured is not to depend on where."""

    def digest_of_code() -> str | None:  # within a function, Ray sends it whole: it needs nothing of ours there
        try:
            found = importlib.util.find_spec("loadgen")
        except ImportError:
            found = None
        if found is None or not found.submodule_search_locations:
            return None
        digest = hashlib.sha256()
        for path in sorted(Path(found.submodule_search_locations[0]).rglob("*.py")):
            digest.update(path.read_bytes())
        return digest.hexdigest()

    here = digest_of_code()
    begun = {node: begin_on(node, digest_of_code) for node in nodes}
    for node, asked in begun.items():
        there = answer(node, asked)
        if there is None:
            raise InputError(
                f"node {node.address}: burstscale is not installed there in the Python that Ray runs; install it"
            )
        if there != here:
            raise InputError(f"node {node.address}: another version of burstscale is installed there; install this one")


def on_node(node: Node) -> NodeAffinitySchedulingStrategy:
    """Run there or nowhere."""
    return NodeAffinitySchedulingStrategy(node.node_id, soft=False)


def begin_on(node: Node, work: Callable[..., Any], *arguments: Any) -> Any:
    """Have a function do its work there, once; gives what `ray.get` takes."""
    options = {"num_cpus": 0, "max_retries": 0, "scheduling_strategy": on_node(node)}
    return ray.remote(work).options(**options).remote(*arguments)


def do_on_each(work: Callable[..., Any], arguments: Mapping[Node, tuple[Any, ...]]) -> list[Any]:
    """Have a function do its work on all of these machines at once; what it returned, in their order.

    Raises:
        InputError: what it says is wrong on one of them, or a process that ended there.
    """
    begun = {node: begin_on(node, work, *given) for node, given in arguments.items()}
    return [answer(node, asked) for node, asked in begun.items()]


def answer(node: Node, asked: Any) -> Any:
    """What a process there answers before a run, or raises.

    Raises:
        InputError: what it says is wrong there, that it has ended, or that it does not answer.
    """
    try:
        return ray.get(asked, timeout=LONGEST_ANSWER_S)
    except GetTimeoutError as error:
        raise no_answer(node) from error
    except RayTaskError as error:
        if node.is_driver or not isinstance(error.cause, InputError):
            raise error.cause from error
        raise InputError(f"node {node.address}: {error.cause}") from error
    except RayError as error:
        said = str(error).strip().split("\n", 1)[0]
        raise InputError(
            f"node {node.address}: a process there ended before anything was sent ({said}); see that the machine is "
            "up and has memory enough, then start again"
        ) from error


def no_answer(node: Node) -> InputError:
    """What is to be said of a machine where a process is silent before a run."""
    return InputError(
        f"node {node.address}: a process there has given no answer for {LONGEST_ANSWER_S:g} s, and nothing was sent; "
        "see that the machine is not overloaded, then start again"
    )
