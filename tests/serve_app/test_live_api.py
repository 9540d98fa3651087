"""The API of a live application with emulated engines: answers, refusals, deadlines and the order of service."""

import asyncio
import json
import os
import time

import aiohttp
import openai
import pytest
import ray
from live_serve import Answer, LiveServe, eventually

from autoscaler.interface import ReplicaState
from loadgen.client import StreamClient, send_request
from loadgen.plan import COMPLETIONS_PATH, PlannedRequest, header_lines
from loadgen.records import Phase, Status
from loadgen.run_clock import RunClock
from loadgen.target import Target
from serve_app.fleet_api import FLEET_PATH, FleetPage, read_description, read_page
from serve_app.traffic import CutOff
from serve_app.traffic_monitor import find_monitor

pytestmark = pytest.mark.ray

APP = "front"
SLOTS = 4
QUEUE = 6


@pytest.fixture(scope="module")
def front(live: LiveServe) -> LiveServe:
    """One replica with four slots and a queue of six."""
    live.deploy(APP, live.args())
    return live


def phase(answer: Answer) -> str | None:
    """The phase in an error answer."""
    found: str | None = json.loads(answer.body)["error"].get("phase")
    return found


def cause(answer: Answer) -> str | None:
    """The cause in an error answer."""
    found: str | None = json.loads(answer.body)["error"].get("cause")
    return found


async def wait_until_idle() -> None:
    """Wait until neither queue nor engine holds a request."""

    async def is_idle() -> bool:
        view = await find_monitor(APP).view.remote(10, 5.0)
        held = sum(sample.running + sample.waiting for sample in view.samples.values())
        return held + sum(queue.requests for queue in view.queued.values()) == 0

    await asyncio.sleep(0.6)  # what was sent before is in the reports by then
    await eventually(is_idle, 10, "the engine was idle")


def client_of(live: LiveServe) -> openai.OpenAI:
    """The official client."""
    return openai.OpenAI(base_url=live.url(APP, "/v1"), api_key="unused", max_retries=0)


def test_the_official_client_streams_a_chat_completion_with_usage(front: LiveServe) -> None:
    """Text, finish reason and usage come as the client expects them, several tokens to a chunk."""
    chunks = list(
        client_of(front).chat.completions.create(
            model="tiny",
            messages=[{"role": "system", "content": "be brief"}, {"role": "user", "content": "tell me a tale"}],
            max_tokens=40,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert len(text.split()) == 40
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "length"
    usage = chunks[-1].usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (6, 40, 46)
    assert 3 <= len(chunks) <= 12, "40 tokens of 10 ms, one chunk per 100 ms"


def test_the_official_client_gets_whole_chats_and_completions(front: LiveServe) -> None:
    """Without streaming, one document with the usage."""
    client = client_of(front)
    chat = client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "a b"}], max_tokens=7)
    assert chat.choices[0].message.content is not None
    assert len(chat.choices[0].message.content.split()) == 7
    assert chat.usage is not None
    assert (chat.usage.prompt_tokens, chat.usage.completion_tokens) == (2, 7)
    completion = client.completions.create(model="tiny", prompt="a b c", max_tokens=5)
    assert completion.usage is not None
    assert (len(completion.choices[0].text.split()), completion.usage.completion_tokens) == (5, 5)
    streamed = client.completions.create(model="tiny", prompt="a b c", max_tokens=30, stream=True)
    assert len("".join(chunk.choices[0].text for chunk in streamed).split()) == 30


def test_models_are_listed_and_what_cannot_be_served_is_refused(front: LiveServe) -> None:
    """404 for another model, 400 for a wrong form and for a request that no replica can hold."""
    client = client_of(front)
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError, match="'tiny' is"):
        client.completions.create(model="other", prompt="a")
    with pytest.raises(openai.BadRequestError, match="max_tokens"):
        client.completions.create(model="tiny", prompt="a", max_tokens=0)
    with pytest.raises(openai.BadRequestError) as refusal:
        client.completions.create(model="tiny", prompt="a b", max_tokens=4096)
    assert refusal.value.body["cause"] == "too_long"  # type: ignore[index]


async def test_an_answer_names_the_request_and_its_replica(front: LiveServe) -> None:
    """The request id comes back, and the replica is the one that reports."""
    async with aiohttp.ClientSession() as session:
        answer = await front.ask(session, APP, tokens=3, x_request_id="row-17")
    view = await find_monitor(APP).view.remote(10, 5.0)
    assert answer.headers["x-request-id"] == "row-17"
    assert answer.headers["x-replica-id"] in view.samples
    assert answer.is_complete_stream


async def test_the_load_generator_learns_how_many_tokens_each_chunk_carries(front: LiveServe) -> None:
    """40 tokens of 10 ms in chunks of 100 ms."""
    options = {"include_usage": True, "continuous_usage_stats": True}
    body = {"model": "tiny", "prompt": "tell me", "max_tokens": 40, "stream": True, "stream_options": options}
    content = json.dumps(body).encode()
    headers = header_lines({"content-type": "application/json", "content-length": str(len(content))})
    request = PlannedRequest(0, "api", "tiny", 2, 40, 0.0, 30.0, COMPLETIONS_PATH, headers, content)
    async with StreamClient(Target(front.url(APP, ""), "tiny")) as client:
        record = await send_request(client, request, RunClock(time.monotonic()))
    assert (record.status, record.output_tokens) == (Status.OK, 40)
    assert record.chunk_tokens is not None
    assert record.chunk_offsets_s is not None
    assert len(record.chunk_tokens) == len(record.chunk_offsets_s)
    assert sum(record.chunk_tokens) == 40
    assert max(record.chunk_tokens) > 1


async def test_tokens_come_at_the_pace_of_the_hardware(front: LiveServe) -> None:
    """100 tokens of 10 ms take a second from the first one, plus the way through proxy and ingress."""
    async with aiohttp.ClientSession() as session:
        await front.ask(session, APP, tokens=3)
        answer = await front.ask(session, APP, tokens=100)
    assert 0.9 < answer.ended_at_s - answer.first_at_s < 1.5


async def test_a_full_queue_is_answered_at_once_with_retry_after(front: LiveServe) -> None:
    """Four run, six wait, the eleventh gets 503; the ten are served."""
    async with aiohttp.ClientSession() as session:
        accepted = [asyncio.create_task(front.ask(session, APP, tokens=100)) for _ in range(SLOTS + QUEUE)]
        await asyncio.sleep(0.5)
        asked_at_s = time.monotonic()
        refused = await front.ask(session, APP, tokens=100)
        assert time.monotonic() - asked_at_s < 0.5
        assert (refused.status, refused.headers["retry-after"], cause(refused)) == (503, "3", "queue_full")
        assert all(answer.is_complete_stream for answer in await asyncio.gather(*accepted))


async def test_interactive_requests_pass_batch_requests_that_came_before(front: LiveServe) -> None:
    """While all slots are taken, three batch and then three interactive requests come: the latter go first."""
    await wait_until_idle()
    async with aiohttp.ClientSession() as session:
        running = [asyncio.create_task(front.ask(session, APP, tokens=120)) for _ in range(SLOTS)]
        await asyncio.sleep(0.4)
        batch = [asyncio.create_task(front.ask(session, APP, tokens=60, x_service="api")) for _ in range(3)]
        await asyncio.sleep(0.2)
        interactive = [
            asyncio.create_task(front.ask(session, APP, tokens=60, x_service="conversation")) for _ in range(3)
        ]
        await asyncio.gather(*running)
        last_interactive_s = max([(await task).first_at_s for task in interactive])
        first_batch_s = sorted([(await task).first_at_s for task in batch])
    # Four slots get free at once: three interactive ones and one batch request; the other two come a generation later.
    assert first_batch_s[1] > last_interactive_s + 0.2


async def test_a_deadline_in_the_queue_and_one_in_the_engine_are_told_apart(front: LiveServe) -> None:
    """504 with its cause, close to the deadline; what the engine holds is freed, and it tells where that was."""
    await wait_until_idle()
    async with aiohttp.ClientSession() as session:
        start_s = time.monotonic()
        slow = await front.ask(session, APP, tokens=4000, stream=False, x_deadline_s="0.8", x_request_id="slow-1")
        assert (slow.status, cause(slow), phase(slow)) == (504, "deadline_in_engine", None)
        assert 0.75 < slow.ended_at_s - start_s < 1.3
        await wait_until_idle()
        samples = (await find_monitor(APP).collect.remote()).samples
        assert CutOff("slow-1", Phase.DECODE) in [each for sample in samples for each in sample.cut_off]
        running = [asyncio.create_task(front.ask(session, APP, tokens=150)) for _ in range(SLOTS)]
        await asyncio.sleep(0.4)
        start_s = time.monotonic()
        late = await front.ask(session, APP, tokens=5, x_deadline_s="0.5")
        assert (late.status, cause(late), phase(late)) == (504, "deadline_in_queue", "router_queue")
        assert 0.45 < late.ended_at_s - start_s < 0.9
        await asyncio.gather(*running)


async def test_a_client_that_leaves_frees_its_slot_and_its_place_in_the_engine(front: LiveServe) -> None:
    """Streams and waiting requests alike."""
    await wait_until_idle()
    async with aiohttp.ClientSession() as session:
        leaving = [asyncio.create_task(front.ask(session, APP, tokens=3000)) for _ in range(SLOTS + 2)]
        await asyncio.sleep(0.6)
        for task in leaving:
            task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        await wait_until_idle()
        start_s = time.monotonic()
        answers = await asyncio.gather(*(front.ask(session, APP, tokens=5) for _ in range(SLOTS)))
    assert all(answer.is_complete_stream for answer in answers)
    assert time.monotonic() - start_s < 1.5


async def test_every_arrival_is_counted_for_its_service(front: LiveServe) -> None:
    """The monitor's complete bins hold exactly what was sent."""
    monitor = find_monitor(APP)
    await asyncio.sleep(1.0)  # a bin of 0.5 s and a report later, all that came before is in complete bins
    before = {service: history.requests.sum() for service, history in (await monitor.arrivals.remote(0.0)).items()}
    async with aiohttp.ClientSession() as session:
        await asyncio.gather(
            *(front.ask(session, APP, tokens=1, x_service="api") for _ in range(5)),
            *(front.ask(session, APP, tokens=1, x_service="conversation") for _ in range(3)),
        )

    async def is_counted() -> bool:
        after = await monitor.arrivals.remote(0.0)
        return (after["api"].requests.sum(), after["conversation"].requests.sum()) == (
            before["api"] + 5,
            before["conversation"] + 3,
        )

    await eventually(is_counted, 3, "the arrivals were counted")


async def test_a_key_is_asked_for_where_one_is_configured(live: LiveServe) -> None:
    """HOME stands for a variable that is set in every process of Ray."""
    args = live.args() | {"api_key_env": "HOME"}
    live.deploy("guarded", args)
    key = await ray.remote(lambda: os.environ["HOME"]).remote()
    async with aiohttp.ClientSession() as session:
        assert (await live.ask(session, "guarded", tokens=1)).status == 401
        assert (await live.ask(session, "guarded", tokens=1, authorization="Bearer wrong")).status == 401
        assert (await live.ask(session, "guarded", tokens=1, authorization=f"Bearer {key}")).status == 200


async def test_without_a_ready_replica_a_request_waits_and_then_gets_a_clear_timeout(live: LiveServe) -> None:
    """A fleet of none answers 504 at the deadline; a fleet that gets its first replica in time serves the request."""
    told = live.folder / "cold.txt"
    told.write_text("0")
    policy = {"name": "told_policy:Told", "params": {"path": str(told)}}
    live.deploy("cold", live.args(fleet={"initial_replicas": 0}, policy=policy))
    async with aiohttp.ClientSession() as session:
        start_s = time.monotonic()
        refused = await live.ask(session, "cold", tokens=3, x_deadline_s="1")
        assert (refused.status, cause(refused), phase(refused)) == (504, "no_ready_replica", "cold_start")
        assert 0.95 < refused.ended_at_s - start_s < 1.5
        waiting = asyncio.create_task(live.ask(session, "cold", tokens=3))
        await asyncio.sleep(0.3)
        told.write_text("1")
        assert (await waiting).is_complete_stream


async def test_the_fleet_tells_what_it_is_and_what_it_did_to_who_has_the_key(live: LiveServe) -> None:
    """Its description, and pages of the log that go on where the last one ended; HOME is the key, as above."""
    live.deploy("telling", live.args() | {"api_key_env": "HOME"})
    headers = {"authorization": f"Bearer {await ray.remote(lambda: os.environ['HOME']).remote()}"}
    address = live.url("telling", FLEET_PATH)
    async with aiohttp.ClientSession() as session:
        for path in ("", "/log"):
            async with session.get(address + path) as answer:
                assert answer.status == 401
        async with session.get(address, headers=headers) as answer:
            described = read_description(await answer.text())
        assert abs(described.clock_s - time.time()) < 1.0
        assert (described.model_id, described.gpus_per_replica, described.policy.name) == ("tiny", 1.0, "static")

        async def page(query: str = "") -> FleetPage:
            async with session.get(f"{address}/log{query}", headers=headers) as answer:
                assert answer.status == 200, await answer.text()
                return read_page(await answer.text())

        async def is_deciding() -> bool:
            return len((await page()).log.decisions) == 1

        await eventually(is_deciding, 10, "the policy decided")
        first = await page()
        assert list(first.replicas.values()) == [ReplicaState.READY]
        await asyncio.sleep(1.0)
        second = await page("?decisions={}&samples={}".format(*first.log.cursor))
        assert len(second.log.decisions) >= 2
        assert second.log.decisions[0].time_s > first.log.decisions[0].time_s
        assert {sample.replica_id for sample in second.log.samples} == set(first.replicas)
        assert second.log.lost_lines == 0
        async with session.get(f"{address}/log?decisions=1", headers=headers) as answer:
            assert answer.status == 400
