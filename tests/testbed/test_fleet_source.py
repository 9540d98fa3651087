"""A server is found to be a fleet of ours or not, and a fleet is asked over HTTP with the key, page by page."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from autoscaler.decision_record import DecisionRecord
from autoscaler.interface import ReplicaState
from loadgen.errors import InputError
from loadgen.records import Phase
from loadgen.target import Target
from serve_app.config import read_serve_file
from serve_app.fleet_api import FLEET_PATH, LOG_PATH, FleetPage, describe_fleet, write_page
from serve_app.traffic import CutOff, EngineSample, TrafficLog
from testbed.collector import Collector
from testbed.fleet_source import find_fleet
from testbed.results import read_results, write_config
from tests.loadgen.conftest import Ask, MockServer, Script

SERVE_FILE = Path(__file__).parents[2] / "configs/serve/emulated.yaml"
JSON = {"content-type": "application/json"}


@pytest.fixture
def server() -> Iterator[MockServer]:
    running = MockServer()
    yield running
    running.close()


def answer(body: str, status: int = 200) -> Script:
    return Script([(0.0, body.encode())], status=status, headers=JSON)


def description(clock_s: float) -> str:
    app, _ = read_serve_file(SERVE_FILE)
    return describe_fleet(app).model_copy(update={"clock_s": clock_s}).model_dump_json()


def fleet_pages(log: TrafficLog, ahead_s: float = 0.0) -> Callable[[Ask], Script]:
    """The two documents of a fleet whose clock is ahead of ours; pages of two lines."""

    def pages(ask: Ask) -> Script:
        if ask.headers.get("authorization") != "Bearer sesame":
            return answer('{"error": {"message": "no key"}}', 401)
        path, _, query = ask.path.partition("?")
        if path == FLEET_PATH:
            return answer(description(time.time() + ahead_s))
        assert path == LOG_PATH
        given = dict(pair.split("=") for pair in query.split("&")) if query else None
        cursor = (int(given["decisions"]), int(given["samples"])) if given else log.latest_cursor()
        return answer(write_page(FleetPage(log.collect(cursor, 2), {"a": ReplicaState.READY})))

    return pages


def new_log() -> TrafficLog:
    return TrafficLog(("conversation", "api"), 1.0, 10)


def decision(time_s: float, target: int = 2) -> DecisionRecord:
    return DecisionRecord(time_s, target, target, "test", 0, 1, 0, 0, 0, 0, 1.0, None)


@pytest.mark.parametrize(
    "found",
    [
        answer('{"error": "not found"}', 404),
        answer('{"error": "not found"}', 500),
        answer("<html>everything is here</html>"),
        answer('{"data": []}'),
        answer("[1]"),
        Script([(0.0, b"\xff\xfe")], headers=JSON),
        Script([(0.0, b"{")], headers=JSON, ending="reset"),
    ],
)
def test_a_server_without_our_document_is_no_fleet(server: MockServer, found: Script) -> None:
    server.models = lambda _ask: found
    assert find_fleet(Target(server.url, "m")) is None
    assert [ask.path for ask in server.asks] == [FLEET_PATH]


def test_nobody_at_all_is_no_fleet() -> None:
    assert find_fleet(Target("http://127.0.0.1:9", "m")) is None


def test_a_fleet_of_another_version_is_one_line(server: MockServer) -> None:
    document = json.dumps(json.loads(description(0.0)) | {"burstscale_fleet": 2})
    server.models = lambda _ask: answer(document)
    with pytest.raises(InputError, match=r"another form than is read here; use the burstscale that serves it$"):
        find_fleet(Target(server.url, "m"))


def test_a_fleet_is_found_with_its_key_and_its_clock(server: MockServer) -> None:
    server.models = fleet_pages(new_log(), ahead_s=1000.0)
    assert find_fleet(Target(server.url, "m", "wrong")) is None
    fleet = find_fleet(Target(f"{server.url}/v1", "m", "sesame"))
    assert fleet is not None
    assert fleet.clock.offset_s == pytest.approx(1000.0, abs=0.5)
    assert fleet.description.model_id == "llama-2-13b"
    assert fleet.description.gpus_per_replica == 1.0


def test_what_a_fleet_did_comes_into_the_folder_over_http_by_our_clock(server: MockServer, tmp_path: Path) -> None:
    log, ahead_s = new_log(), 1000.0
    server.models = fleet_pages(log, ahead_s)
    for second in range(5):  # of before: not read
        log.add_decision(decision(time.time() + ahead_s - 60 + second, target=7))
    fleet = find_fleet(Target(server.url, "m", "sesame"))
    assert fleet is not None
    write_config(tmp_path, {"name": "test"})
    with Collector(tmp_path, fleet.ask, clock_offset_s=fleet.clock.offset_s, interval_s=3600.0) as collector:
        assert collector.replicas_now() == "1 ready, 7 wanted"
        start_epoch_s = time.time()
        collector.start(start_epoch_s)
        for second in range(1, 6):
            at_s = start_epoch_s + ahead_s + second
            log.add_decision(decision(at_s))
            told = (CutOff(f"tag-{second}", Phase.ENGINE_QUEUE),)
            log.add_sample(EngineSample("a", at_s, 1.0, 1, 1, 0.5, 40, cut_off=told))
    results = read_results(tmp_path)
    assert [line["time_s"] for line in results.decisions] == pytest.approx([1, 2, 3, 4, 5], abs=0.5)
    assert results.engine["time_s"].tolist() == pytest.approx([1, 2, 3, 4, 5], abs=0.5)
    assert results.replicas[["replica_id", "state"]].to_numpy().tolist() == [["a", "ready"]]
    assert collector.server_word("tag").cut_off == {(number, 1): Phase.ENGINE_QUEUE for number in range(1, 6)}
    assert collector.target_at_start() == 7
    assert collector.problems() == []
    read = [ask.path for ask in server.asks if ask.path.startswith(LOG_PATH)]
    assert read[:2] == [LOG_PATH, f"{LOG_PATH}?decisions=5&samples=0"], "the four older decisions are not asked for"


def test_a_fleet_that_goes_away_is_a_problem_and_no_crash(server: MockServer, tmp_path: Path) -> None:
    server.models = fleet_pages(new_log())
    fleet = find_fleet(Target(server.url, "m", "sesame"))
    assert fleet is not None
    server.models = lambda _ask: answer('{"error": {"message": "the traffic monitor does not answer now"}}', 503)
    write_config(tmp_path, {"name": "test"})
    with Collector(tmp_path, fleet.ask, interval_s=3600.0) as collector:
        collector.start(time.time())
    (problem,) = collector.problems()
    assert "did not answer" in problem
    assert "503" in problem
