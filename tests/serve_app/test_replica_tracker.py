"""The fleet pieced together from Serve's numbers and the replicas' reports."""

from autoscaler.interface import ReplicaState
from serve_app.replica_tracker import ReplicaTracker
from serve_app.traffic import EngineSample


def samples(*ids: str, running: int = 2) -> dict[str, EngineSample]:
    """A sample of each."""
    return {name: EngineSample(name, 0.0, 2.0, running, 1, 0.5, output_tokens=10) for name in ids}


def states(replicas: tuple[object, ...]) -> list[tuple[str, str, float]]:
    """(id, state, asked for at)."""
    return [(each.replica_id, each.state.value, each.requested_at_s) for each in replicas]  # type: ignore[attr-defined]


def test_a_replica_is_starting_from_the_moment_it_is_asked_for_and_keeps_that_moment_when_ready() -> None:
    """Two are asked for at 10 s, one more at 12 s; they get ready in that order."""
    tracker = ReplicaTracker()
    assert states(tracker.update(0, 1, ["a"], {})) == [("a", "ready", 0)]
    assert states(tracker.update(10, 3, ["a"], {}))[1:] == [
        ("starting-1", "starting", 10),
        ("starting-2", "starting", 10),
    ]
    assert [each[2] for each in states(tracker.update(12, 4, ["a"], {}))] == [0, 10, 10, 12]
    ready = tracker.update(20, 4, ["a", "b", "c"], {})
    assert states(ready) == [("a", "ready", 0), ("b", "ready", 10), ("c", "ready", 10), ("starting-1", "starting", 12)]


def test_a_start_that_is_called_off_is_forgotten_the_latest_first() -> None:
    """The one that was asked for first is still on its way."""
    tracker = ReplicaTracker()
    tracker.update(0, 1, [], {})
    tracker.update(5, 3, [], {})
    assert states(tracker.update(6, 1, [], {})) == [("starting-1", "starting", 0)]


def test_a_replica_that_serve_does_not_count_but_that_reports_is_draining() -> None:
    """Until it reports no more."""
    tracker = ReplicaTracker()
    tracker.update(0, 2, ["a", "b"], {})
    draining = tracker.update(10, 1, ["a"], samples("a", "b"))
    assert [(each.replica_id, each.state) for each in draining] == [
        ("a", ReplicaState.READY),
        ("b", ReplicaState.DRAINING),
    ]
    assert len(tracker.update(12, 1, ["a"], samples("a"))) == 1


def test_load_is_what_the_replica_reported_last() -> None:
    """Ten tokens in two seconds; zeros before the first report."""
    tracker = ReplicaTracker()
    reported, silent = tracker.update(0, 2, ["a", "b"], samples("a"))
    assert (reported.running, reported.waiting, reported.kv_cache_fraction, reported.tokens_per_s) == (2, 1, 0.5, 5.0)
    assert (silent.running, silent.tokens_per_s) == (0, 0.0)


def test_a_replica_that_reports_before_serve_counts_it_is_still_starting() -> None:
    """It announces itself at the end of its constructor, a moment before Serve knows."""
    tracker = ReplicaTracker()
    assert states(tracker.update(3, 1, [], samples("a"))) == [("starting-1", "starting", 3)]
