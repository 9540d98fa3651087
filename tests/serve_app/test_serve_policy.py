"""The policy object in Serve's controller: whatever is wrong, the answer is Serve's own target."""

from types import SimpleNamespace
from typing import Any

import pytest

from serve_app.serve_policy import ServePolicy


def test_a_policy_that_could_not_be_made_leaves_the_replicas_as_they_are() -> None:
    """An exception in its constructor would stop the deployment of every later application."""
    policy = ServePolicy({"no": "configuration"})
    context: Any = SimpleNamespace(target_num_replicas=3, running_replicas=[], app_name="a")
    assert policy(context) == (3, {})


@pytest.mark.parametrize("running", [None, [object()]])
def test_a_context_that_is_not_as_expected_does_not_raise(running: Any) -> None:
    """Serve may change what it passes."""
    policy = ServePolicy({})
    policy._loop = SimpleNamespace(advise=lambda _facts: 7)  # type: ignore[assignment]
    context: Any = SimpleNamespace(target_num_replicas=3, running_replicas=running, app_name="a")
    assert policy(context) == (3, {})


def test_the_latest_target_of_the_loop_is_returned_and_none_means_stay() -> None:
    """The call itself decides nothing."""
    policy = ServePolicy({})
    targets = iter([5, None])
    policy._loop = SimpleNamespace(advise=lambda _facts: next(targets))  # type: ignore[assignment]
    context: Any = SimpleNamespace(target_num_replicas=3, running_replicas=[], app_name="a")
    assert [policy(context)[0] for _ in range(2)] == [5, 3]
