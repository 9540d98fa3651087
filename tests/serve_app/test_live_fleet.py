"""A live fleet: it grows and shrinks as the policy says, survives bad policies and a killed replica."""

import asyncio
import os
import signal
import time
from collections import Counter
from pathlib import Path

import aiohttp
import pytest
import ray
from echo_app import echo_app
from live_serve import LiveServe, eventually, memory_bytes, wait_for_end
from ray import serve

from autoscaler.interface import ReplicaState
from serve_app.serve_state import ReplicaStatus, replica_states
from serve_app.traffic_monitor import find_monitor

pytestmark = pytest.mark.ray

APP = "fleet"
OTHER = "other"


@pytest.fixture(scope="module")
def told(live: LiveServe) -> Path:
    """The file that tells the policy of the application 'fleet' how many replicas it wants."""
    path = live.folder / "told.txt"
    path.write_text("1")
    live.deploy(APP, live.args(policy={"name": "told_policy:Told", "params": {"path": str(path)}}))
    return path


def engines(app: str = APP) -> list[ReplicaStatus]:
    """The engine replicas of an application."""
    return [replica for replica in replica_states(app) if replica.deployment == "engine"]


def ready(app: str = APP) -> int:
    """How many engine replicas are ready."""
    return sum(replica.state is ReplicaState.READY for replica in engines(app))


async def fleet_is(replicas: int, within_s: float = 20.0) -> float:
    """Wait until exactly so many replicas are there, all ready; how long it took."""
    return await eventually(
        lambda: len(engines()) == replicas == ready(), within_s, f"{replicas} replicas were there and ready"
    )


async def tell(path: Path, word: str, replicas: int) -> None:
    """Tell the policy a number and wait until the fleet has it."""
    path.write_text(word)
    await fleet_is(replicas)


async def test_the_fleet_follows_the_policy_and_a_shrinking_fleet_finishes_its_streams(
    live: LiveServe, told: Path
) -> None:
    """1 -> 3 -> 1 under load: every stream ends whole, the decisions are on record."""
    monitor = find_monitor(APP)
    cursor = (await monitor.collect.remote()).cursor
    await tell(told, "3", 3)
    async with aiohttp.ClientSession() as session:
        streams = [asyncio.create_task(live.ask(session, APP, tokens=400)) for _ in range(9)]
        await asyncio.sleep(1.0)
        told.write_text("1")
        answers = await asyncio.gather(*streams)
    assert all(answer.is_complete_stream for answer in answers)
    shares = Counter(answer.headers["x-replica-id"] for answer in answers)
    assert sorted(shares.values()) == [3, 3, 3], "the least loaded replica takes the next request"
    await fleet_is(1)
    collected = await monitor.collect.remote(cursor)
    assert {1, 3} <= {decision.target_replicas for decision in collected.decisions}
    assert max(decision.starting for decision in collected.decisions) == 2
    assert max(decision.draining for decision in collected.decisions) == 2
    assert all(decision.reason.startswith("told") for decision in collected.decisions)
    assert sum(sample.output_tokens for sample in collected.samples) == 9 * 400
    assert collected.lost_lines == 0


@pytest.mark.parametrize("word", ["raise", "nan", "sleep"])
async def test_a_bad_policy_costs_a_counter_and_a_log_line_and_nothing_else(
    live: LiveServe, told: Path, word: str
) -> None:
    """Replicas stay, both applications answer, and another one is deployed meanwhile."""
    await tell(told, "2", 2)
    monitor = find_monitor(APP)
    before = await monitor.counters.remote()
    cursor = (await monitor.collect.remote()).cursor
    told.write_text(word)
    await asyncio.sleep(1.0)
    start_s = time.monotonic()
    await asyncio.to_thread(serve.run, echo_app(word), name=OTHER, route_prefix=f"/{OTHER}")
    assert time.monotonic() - start_s < 15
    async with aiohttp.ClientSession() as session:
        assert (await live.ask(session, APP, tokens=5)).is_complete_stream
        async with session.get(live.url(OTHER)) as response:
            assert await response.text() == word
    await asyncio.sleep(1.0)
    assert ready() == len(engines()) == 2
    status = serve.status().applications
    assert status[APP].status == status[OTHER].status == "RUNNING"
    after = await monitor.counters.remote()
    assert after["policy_failures"] >= before.get("policy_failures", 0) + 2
    failed = [line for line in (await monitor.collect.remote(cursor)).decisions if line.error is not None]
    expected = {"raise": "told to raise", "nan": "nan replicas", "sleep": "longer than 1 s"}[word]
    assert any(expected in (line.error or "") for line in failed)
    assert all(line.target_replicas == 2 for line in failed)
    assert expected in controller_log()
    told.write_text("1")  # a policy that is well again is listened to again, also after it slept
    await fleet_is(1, within_s=30)


def controller_log() -> str:
    """What Serve's controller has written to its log files."""
    folder = Path(ray.nodes()[0]["ObjectStoreSocketName"]).parents[1] / "logs" / "serve"
    return "".join(path.read_text() for path in folder.glob("controller_*.log"))


async def test_a_killed_replica_takes_only_its_own_streams_and_is_replaced(live: LiveServe, told: Path) -> None:
    """SIGKILL of one of three under load: its streams end without the end mark and with the cause, others end well."""
    await tell(told, "3", 3)
    async with aiohttp.ClientSession() as session:
        streams = [asyncio.create_task(live.ask(session, APP, tokens=300)) for _ in range(9)]
        await asyncio.sleep(0.5)
        whole = [asyncio.create_task(live.ask(session, APP, tokens=200, stream=False)) for _ in range(3)]
        await asyncio.sleep(0.5)
        victim = engines()[0]
        assert victim.process_id is not None
        os.kill(victim.process_id, signal.SIGKILL)
        later = [asyncio.create_task(live.ask(session, APP, tokens=20)) for _ in range(6)]
        answers = await asyncio.gather(*streams)
        assert all(answer.is_complete_stream for answer in await asyncio.gather(*later))
        statuses = sorted(answer.status for answer in await asyncio.gather(*whole))
    lost = [answer for answer in answers if answer.headers["x-replica-id"] == victim.replica_id]
    others = [answer for answer in answers if answer.headers["x-replica-id"] != victim.replica_id]
    assert (len(lost), len(others)) == (3, 6)
    assert all(answer.is_complete_stream for answer in others)
    for answer in lost:
        assert not answer.is_complete_stream
        assert '"cause": "replica_lost"' in answer.body.rstrip().splitlines()[-1]
    assert statuses == [200, 200, 502], "an answer that had not begun is a plain error"
    assert {answer.headers["x-replica-id"] for answer in await asyncio.gather(*whole) if answer.status == 502} == {
        victim.replica_id
    }
    assert wait_for_end({victim.process_id}, 5) == set()
    await eventually(  # Serve may still list it when its requests have long been answered
        lambda: victim.replica_id not in {replica.replica_id for replica in engines()}, 20.0, "the dead replica is gone"
    )
    await fleet_is(3)


async def test_a_killed_monitor_is_replaced_and_decisions_go_on(live: LiveServe, told: Path) -> None:
    """Replicas stay while it is away; afterwards the policy is listened to again."""
    await tell(told, "2", 2)
    ray.kill(find_monitor(APP), no_restart=True)
    async with aiohttp.ClientSession() as session:
        assert (await live.ask(session, APP, tokens=5)).is_complete_stream
    assert len(engines()) == 2
    await tell(told, "1", 1)


async def test_a_redeployed_application_keeps_its_streams_and_listens_to_the_new_policy_only(
    live: LiveServe, told: Path
) -> None:
    """Ingress and engines are replaced while they drain; the old policy decides no more."""
    await tell(told, "1", 1)
    new = live.folder / "new.txt"
    new.write_text("2")
    async with aiohttp.ClientSession() as session:
        streams = [asyncio.create_task(live.ask(session, APP, tokens=600)) for _ in range(3)]
        await asyncio.sleep(0.5)
        changed = live.args(policy={"name": "told_policy:Told", "params": {"path": str(new)}})
        await asyncio.to_thread(live.deploy, APP, changed)
        assert (await live.ask(session, APP, tokens=5)).is_complete_stream
        assert all(answer.is_complete_stream for answer in await asyncio.gather(*streams))
    await fleet_is(2)
    told.write_text("3")
    monitor = find_monitor(APP)
    cursor = (await monitor.collect.remote()).cursor
    await asyncio.sleep(1.5)
    collected = await monitor.collect.remote(cursor)
    assert {decision.reason for decision in collected.decisions} == {"told 2"}
    assert collected.decisions[-1].arrivals_per_s == 0
    assert ready() == 2


async def test_twelve_light_replicas_share_a_small_machine(live: LiveServe, told: Path) -> None:
    """Less than 250 MB each, and each serves its share."""
    told.write_text("12")
    (live.folder / "new.txt").write_text("12")  # where the test before has redeployed
    await fleet_is(12, within_s=180)
    async with aiohttp.ClientSession() as session:
        answers = await asyncio.gather(*(live.ask(session, APP, tokens=200) for _ in range(24)))
    assert all(answer.is_complete_stream for answer in answers)
    shares = Counter(answer.headers["x-replica-id"] for answer in answers)
    assert sorted(shares.values()) == [2] * 12
    sizes = [memory_bytes(replica.process_id) for replica in engines() if replica.process_id]
    assert len(sizes) == 12
    assert max(sizes) < 250e6
