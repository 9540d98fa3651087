"""The router's queue: order, size, cancellation, and what it tells the policy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.interface import Priority, QueueSnapshot
from autoscaler.simulator.router_state import QueueOrder
from serve_app.router_queue import QueuedRequest, RouterQueue

SERVICES = ("conversation", "api")
PRIORITY = {"conversation": Priority.INTERACTIVE, "api": Priority.BATCH}


def request(key: str, *, service: str = "conversation", deadline_s: float = 30.0, tokens: int = 1) -> QueuedRequest:
    """A request of the service's class."""
    return QueuedRequest(key, service, PRIORITY[service], tokens, deadline_s)


def drain(queue: RouterQueue) -> list[str]:
    """The keys in the order in which they are served."""
    keys = []
    while (popped := queue.pop()) is not None:
        keys.append(popped.key)
    return keys


def test_interactive_goes_first_then_the_earliest_deadline_then_the_first_to_come() -> None:
    """The batch request with the earliest deadline of all still waits for the interactive ones."""
    queue = RouterQueue(10)
    queue.push(request("batch soon", service="api", deadline_s=1))
    queue.push(request("late", deadline_s=9))
    queue.push(request("early", deadline_s=5))
    queue.push(request("early too", deadline_s=5))
    assert drain(queue) == ["early", "early too", "late", "batch soon"]


def test_a_full_queue_refuses_and_has_room_again_after_a_removal() -> None:
    """Removed requests do not count."""
    queue = RouterQueue(2)
    queue.push(request("a"))
    queue.push(request("b"))
    assert queue.is_full
    with pytest.raises(ValueError, match="2 requests"):
        queue.push(request("c"))
    assert queue.remove("a")
    queue.push(request("c"))
    assert drain(queue) == ["b", "c"]


def test_a_key_that_waits_cannot_be_pushed_again_but_may_come_back_later() -> None:
    """The entry that was removed does not serve the one that came back with another deadline."""
    queue = RouterQueue(10)
    queue.push(request("a", deadline_s=1))
    with pytest.raises(ValueError, match="waits already"):
        queue.push(request("a"))
    queue.remove("a")
    queue.push(request("b", deadline_s=2))
    queue.push(request("a", deadline_s=3))
    assert drain(queue) == ["b", "a"]


def test_the_snapshot_counts_by_service() -> None:
    """A service without requests has no deadline."""
    queue = RouterQueue(10)
    queue.push(request("a", service="api", deadline_s=7, tokens=10))
    queue.push(request("b", service="api", deadline_s=4, tokens=5))
    assert queue.snapshot(SERVICES) == {"conversation": QueueSnapshot(), "api": QueueSnapshot(2, 15, 4.0)}


operations = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.sampled_from(SERVICES), st.floats(0, 100), st.integers(0, 50)),
        st.tuples(st.just("pop")),
        st.tuples(st.just("remove"), st.integers(0, 60)),
    ),
    max_size=80,
)


@given(operations)
def test_each_request_leaves_exactly_once_and_always_the_first_in_order(steps: list[tuple[object, ...]]) -> None:
    """Against a plain sorted list, whatever is pushed, popped and removed; the snapshot agrees at every step."""
    queue, model = RouterQueue(12), {}
    for number, step in enumerate(steps):
        if step[0] == "push" and len(model) < 12:
            _, service, deadline_s, tokens = step
            item = request(str(number), service=str(service), deadline_s=float(deadline_s), tokens=int(tokens))  # type: ignore[arg-type]
            queue.push(item)
            model[item.key] = (item.priority is Priority.BATCH, item.deadline_s, number, item)
        elif step[0] == "pop":
            expected = min(model.values(), key=lambda entry: entry[:3], default=None)
            popped = queue.pop()
            assert popped == (None if expected is None else expected[3])
            if popped is not None:
                del model[popped.key]
        elif step[0] == "remove":
            key = str(step[1])
            assert queue.remove(key) == (model.pop(key, None) is not None)
        assert len(queue) == len(model)
        snapshot = queue.snapshot(SERVICES)
        waiting = [entry[3] for entry in model.values()]
        assert sum(each.requests for each in snapshot.values()) == len(waiting)
        assert sum(each.prompt_tokens for each in snapshot.values()) == sum(item.prompt_tokens for item in waiting)
        deadlines = [each.earliest_deadline_s for each in snapshot.values() if each.earliest_deadline_s is not None]
        assert min(deadlines, default=None) == min((item.deadline_s for item in waiting), default=None)


def test_a_plain_queue_looks_at_neither_class_nor_deadline() -> None:
    queue = RouterQueue(10, QueueOrder.FIFO)
    for number, (service, deadline_s) in enumerate([("api", 90.0), ("conversation", 30.0), ("api", 10.0)]):
        queue.push(request(str(number), service=service, deadline_s=deadline_s))
    assert [popped.key for _ in range(3) if (popped := queue.pop()) is not None] == ["0", "1", "2"]
