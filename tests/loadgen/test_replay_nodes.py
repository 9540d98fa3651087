"""A replay by actors on several nodes: real Ray nodes, here both on this machine, one with a clock that is ahead."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent / "importable/two_nodes.py"
HERE, THERE = "127.0.0.2", "127.0.0.3"
CLOCK_AHEAD_S = 7.5

pytestmark = [pytest.mark.ray, pytest.mark.timeout(200)]


@pytest.fixture(scope="module")
def found() -> Iterator[dict[str, Any]]:
    """What two replays came to: 'whole', and 'killed' whose second node is killed in the middle."""
    # A short path: Ray's sockets lie below it.
    with tempfile.TemporaryDirectory(prefix="nodes-", dir="/tmp") as folder:
        environment = {**os.environ, "RAY_TMPDIR": folder, "TMPDIR": folder, "RAY_USAGE_STATS_ENABLED": "0"}
        environment.pop("RAY_ADDRESS", None)
        done = subprocess.run(
            [sys.executable, str(SCRIPT), folder, str(CLOCK_AHEAD_S)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        yield json.loads(done.stdout.strip().splitlines()[-1])


def test_both_nodes_send_their_half_of_one_plan_and_what_they_wrote_comes_home(found: dict[str, Any]) -> None:
    whole = found["whole"]
    assert {node: sorted(rows) for node, rows in whole["rows_by_node"].items()} == {
        HERE: list(range(0, 80, 2)),
        THERE: list(range(1, 80, 2)),
    }
    assert [record["request_id"] for record in whole["records"]] == list(range(80))
    assert {record["status"] for record in whole["records"]} == {"ok"}
    assert whole["lost"] == []
    assert whole["parts"] == [*(f"records.part-00{actor}.jsonl" for actor in range(4)), "replay.json"]
    assert whole["left_there"] == []


def test_the_clock_of_the_other_node_is_known_to_half_a_round_trip(found: dict[str, Any]) -> None:
    here, there = found["whole"]["senders"]
    assert (here["address"], here["actors"], here["is_driver"]) == (HERE, 2, True)
    assert (here["clock_offset_s"], here["clock_uncertainty_s"], here["clock_drift_s"]) == (0, 0, 0)
    assert (there["address"], there["actors"], there["is_driver"]) == (THERE, 2, False)
    assert abs(there["clock_offset_s"] - CLOCK_AHEAD_S) <= there["clock_uncertainty_s"] < 1
    assert abs(there["clock_drift_s"]) < 1


def test_records_of_both_nodes_are_on_one_time_axis_the_servers_own(found: dict[str, Any]) -> None:
    whole = found["whole"]
    for node, rows in whole["rows_by_node"].items():
        for row in rows:
            record, arrived_s = whole["records"][row], whole["arrived_s"][str(row)]
            # A second is much for this machine and little beside the clock's 7.5.
            assert abs(arrived_s - record["sent_s"]) < 1, node
            assert abs(arrived_s - record["scheduled_s"]) < 1, node
            assert arrived_s < record["first_token_s"] + 1, node


def test_a_node_that_dies_is_reported_and_each_of_its_requests_still_has_a_record(found: dict[str, Any]) -> None:
    killed = found["killed"]
    records = killed["records"]
    assert [record["request_id"] for record in records] == list(range(160))
    theirs = [record for record in records if record["request_id"] in killed["rows_by_node"][THERE]]
    ours = [record for record in records if record not in theirs]
    assert (len(ours), {record["status"] for record in ours}) == (80, {"ok"})
    assert {(record["status"], record["cause"]) for record in theirs} == {("cancelled", "client_lost")}
    assert {record["error"].split(":")[0] for record in theirs} == {"whether it was sent is not known"}
    assert [said.split(":")[0] for said in killed["lost"]] == [
        f"actor 1 on {THERE}",
        f"actor 3 on {THERE}",
        f"node {THERE}",
    ]
    assert killed["senders"][1]["clock_drift_s"] is None
    assert len(killed["left_there"]) == 1, "as nobody was there to fetch it"
    assert killed["left_there"][0] in killed["lost"][-1]
