"""`burstscale load` against a server whose every answer is known: what is sent, recorded, written and left out."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from loadgen.formats.detect import read_trace
from loadgen.trace import make_trace
from loadgen.trace_file import load_trace, save_trace
from testbed.results import Results, read_results
from tests.loadgen.conftest import Ask, MockServer, Script
from tests.testbed.command import DEMO, Finished, burstscale


@pytest.fixture
def server() -> Iterator[MockServer]:
    running = MockServer()
    yield running
    running.close()


def load(*arguments: str | Path) -> Finished:
    """Run `burstscale load`."""
    return burstscale("load", *arguments)


def conversations(folder: Path) -> Path:
    """Five conversations of two turns a tenth of a second apart, which take half a second to answer."""
    path = folder / "traffic.parquet"
    arrival_s = np.sort(np.concatenate([np.arange(5) * 0.4, np.arange(5) * 0.4 + 0.1]))
    trace = make_trace("two turns", arrival_s, [8] * 10, [3] * 10, duration_s=2.5, session=np.repeat(np.arange(5), 2))
    save_trace(trace, path)
    return path


class Sent(NamedTuple):
    """What came of the conversations, to a server that refuses the first attempt of request 4."""

    stdout: str
    results: Results
    asked: list[Ask]


@pytest.fixture(scope="module")
def sent(ray_address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sent]:  # noqa: ARG001 - it is there
    """One run of two actors, with many options that do not touch each other."""
    server, folder = MockServer(), tmp_path_factory.mktemp("sent")
    stream, seen = MockServer.stream(ttft_s=0.5), Counter[str]()

    def script(ask: Ask) -> Script:
        name = ask.headers["x-request-id"]
        seen[name] += 1
        refused = name.endswith("-4") and seen[name] == 1
        headers = {"content-type": "text/plain", "retry-after": "1"}
        return Script([(0.0, b"busy")], status=503, headers=headers) if refused else stream(ask)

    server.script_for = script
    sending = ("--sessions", "--max-attempts", "3", "--warm-up-s", "0.3", "--actors", "2", "--spread")
    asking = ("--temperature", "0.5", "--extra-body", '{"top_p": 0.9}', "--header", "X-Team: blue", "--free-lengths")
    traffic, out = conversations(folder), folder / "out"
    code, stdout, stderr = load(traffic, "--url", server.url, "--model", "m", *sending, *asking, "-o", out)
    assert (code, stderr) == (0, "")
    yield Sent(stdout, read_results(out), server.asked())
    server.close()


@pytest.mark.ray
def test_a_turn_waits_for_the_answer_before(sent: Sent) -> None:
    records = sent.results.records.sort_values("request_id")
    assert records["status"].tolist() == ["ok"] * 10
    first, second = records.iloc[::2].reset_index(), records.iloc[1::2].reset_index()
    assert (second["scheduled_s"] >= first["finished_s"] - 1e-9).all()  # an answer takes longer than the gap
    np.testing.assert_allclose(second["planned_s"], first["scheduled_s"] + 0.1)
    assert first["planned_s"].isna().all()


@pytest.mark.ray
def test_what_is_refused_is_sent_again_after_the_pause_that_the_server_asks_for(sent: Sent) -> None:
    records = sent.results.records.sort_values("request_id")
    assert records["attempts"].tolist() == [1, 1, 1, 1, 2, 1, 1, 1, 1, 1]
    attempts = pq.read_table(sent.results.path / "attempts.parquet").to_pandas()
    assert len(attempts) == 11
    tried = attempts[attempts["request_id"] == 4]
    assert tried["status"].tolist() == ["rejected", "ok"]
    assert tried["sent_s"].iloc[1] - tried["finished_s"].iloc[0] >= 1.0


@pytest.mark.ray
def test_requests_hold_what_the_options_say(sent: Sent) -> None:
    for ask in sent.asked:
        assert ask.headers["x-team"] == "blue"
        assert ask.body["stream_options"] == {"include_usage": True}  # any server knows this one
        assert (ask.body["temperature"], ask.body["top_p"]) == (0.5, 0.9)
        assert "ignore_eos" not in ask.body


@pytest.mark.ray
def test_the_summary_leaves_the_warm_up_out_and_tells_of_the_client(sent: Sent) -> None:
    out, stdout = sent.results.path, sent.stdout
    summary = json.loads((out / "summary.json").read_text())
    assert summary["warm_up"] == {"until_s": 0.3, "requests": 1}  # the second turn waited until it was over
    assert summary["requests"]["total"]["offered"] == 9
    assert "the first 0.3 s are a warm-up" in stdout
    assert summary["client"]["cpu_ms_per_request"] == pytest.approx(1e3 * summary["client"]["cpu_s"] / 10)
    assert 0 < summary["client"]["busiest_fraction"] < 1
    assert "the load generator sent 99 % of the requests within" in stdout
    assert yaml.safe_load((out / "config.yaml").read_text())["client"]["max_attempts"] == 3


@pytest.mark.ray
def test_the_plan_is_kept_as_it_was_sent(sent: Sent) -> None:
    path = sent.results.path / "plan.parquet"
    assert load_trace(path).prompt_tokens.tolist() == [8] * 10
    assert sent.results.environment["plan"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    lengths = {ask.headers["x-request-id"].split("-")[1]: int(ask.headers["content-length"]) for ask in sent.asked}
    assert pq.read_table(path)["body_bytes"].to_pylist() == [lengths[str(row)] for row in range(10)]
    assert len(read_trace(path)) == 10  # as `simulate --trace` reads it


@pytest.mark.ray
def test_on_a_cluster_of_one_machine_spreading_sends_all_from_there_and_says_so(sent: Sent) -> None:
    environment = sent.results.environment
    (sender,) = environment["senders"]
    assert (sender["actors"], sender["is_driver"], sender["clock_offset_s"]) == (2, True, 0.0)
    assert (environment["client"]["actors"], environment["client"]["machines"]) == (2, 1)
    assert f"sent from {sender['address']} (2 actors)" in sent.stdout
    assert sent.results.config["replay"]["spread"] is True


@pytest.mark.ray
@pytest.mark.usefixtures("ray_address")
def test_users_send_for_a_while_and_only_what_they_came_to_counts(server: MockServer, tmp_path: Path) -> None:
    server.script_for = MockServer.stream(ttft_s=0.2)
    out = tmp_path / "out"
    sending = ("--users", "2", "--duration-s", "1.5", "--no-self-test", "--chunk-tokens")
    code, _, stderr = load(DEMO, "--url", server.url, "--model", "m", *sending, "--max-output-tokens", "1", "-o", out)
    assert (code, stderr) == (0, "")
    results = read_results(out)
    assert results.complete
    assert results.records["sent_s"].notna().all()
    assert all(ask.body["stream_options"]["continuous_usage_stats"] is True for ask in server.asked())
    assert len(results.records) == len(server.asked()) == results.summary["planned_requests"]  # type: ignore[index]
    assert 4 <= len(results.records) <= 16  # two users, at least 0.2 s a request
    assert results.records["scheduled_s"].max() < 1.5
    assert results.summary["requests"]["duration_s"] == 1.5  # type: ignore[index]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_address")
def test_the_knee_of_a_server_that_is_slow_beyond_a_rate_is_found_and_written_down(
    server: MockServer, tmp_path: Path
) -> None:
    arrived_s: list[float] = []

    def script(ask: Ask) -> Script:
        arrived_s.append(ask.arrived_s)
        busy = sum(ask.arrived_s - instant_s < 0.5 for instant_s in arrived_s) > 12  # of the last half second
        return MockServer.stream(ttft_s=1.0 if busy else 0.0)(ask)

    server.script_for = script
    out = tmp_path / "out"
    sending = ("--find-knee", "--knee-from", "8", "--knee-step-s", "2", "--ttft-s", "0.5", "--no-self-test")
    code, stdout, stderr = load(
        DEMO, "--url", server.url, "--model", "m", *sending, "--max-output-tokens", "2", "-o", out
    )
    assert (code, stderr) == (0, "")
    knee = json.loads((out / "knee.json").read_text())
    assert knee["sentence"] in stdout
    assert {step["folder"] for step in knee["steps"]} == {path.name for path in out.glob("step-*")}
    for step in knee["steps"]:
        summary = json.loads((out / step["folder"] / "summary.json").read_text())
        assert step["attainment_fraction"] == summary["requests"]["total"]["attainment_fraction"]
        assert summary["warm_up"]["until_s"] == 0.4
        config = yaml.safe_load((out / step["folder"] / "config.yaml").read_text())
        assert config["workload"]["ramp"]["from_per_s"] == step["rate_per_s"]
    kept = [step["rate_per_s"] for step in knee["steps"] if not step["invalid"] and step["attainment_fraction"] >= 0.9]
    assert knee["rate_per_s"] in kept


@pytest.mark.ray
@pytest.mark.usefixtures("ray_address")
def test_a_warm_up_lasts_until_the_servers_caches_are_in_use(server: MockServer, tmp_path: Path) -> None:
    models = server.models

    def pages(ask: Ask) -> Script:
        if ask.path != "/metrics":
            return models(ask)
        is_warm = bool(server.asked()) and ask.arrived_s > server.asked()[0].arrived_s + 2.0
        page = f'vllm:kv_cache_usage_perc{{engine="0"}} {0.35 if is_warm else 0.1}\n'
        return Script([(0.0, page.encode())], headers={"content-type": "text/plain"})

    server.models = pages
    out = tmp_path / "out"
    sending = ("--ramp", "20:20:6", "--warm-up-kv", "--no-self-test", "--max-output-tokens", "1")
    code, stdout, stderr = load(DEMO, "--url", server.url, "--model", "m", *sending, "-o", out)
    assert (code, stderr) == (0, "")
    results = read_results(out)
    until_s = results.environment["warm_up_until_s"]
    assert until_s >= 1.5  # rounded to seconds
    counted = results.summary["requests"]["total"]["offered"]  # type: ignore[index]
    assert counted == int((results.records["scheduled_s"] >= until_s).sum()) < len(results.records)
    assert f"the first {until_s:g} s are a warm-up" in stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--ramp", "1:2"), "--ramp: got '1:2', want FROM:TO:SECONDS"),
        (("--extra-body", "[1]"), "--extra-body: got '[1]', want a JSON object"),
        (("--extra-body", "{"), "--extra-body: got '{', want a JSON object"),
        (("--extra-body", '{"stream": false}'), "sets 'stream' itself"),
        (("--header", "nope"), "--header: got 'nope', want 'Name: value'"),
        (("--users", "2", "--sessions"), "two ways to send"),
        (("--think-s", "1"), "give users too"),
        (("--max-attempts", "0"), "'max_attempts'"),
        (("--warm-up-s", "1e9"), "none would count"),
        (("--ramp", "1:2:3", "--sessions"), "does not go with --sessions or --users"),
        (("--find-knee", "--ramp", "1:2:3"), "--find-knee: chooses the rates itself"),
        (("--find-knee", "--users", "2"), "--find-knee: gives each request its instant; leave --sessions and --users"),
        (("--find-knee", "--knee-attainment", "1.5"), "--knee-attainment: got 1.5"),
        (("--find-knee", "--knee-from", "0"), "--knee-from: got 0"),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_is_sent(
    tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    out = tmp_path / "out"
    code, _, stderr = load(DEMO, "--url", "http://127.0.0.1:9", "--model", "m", *options, "-o", out)
    assert code == 2
    assert said in stderr
    assert len(stderr.strip().splitlines()) == 1
    assert not out.exists()


def test_the_help_lists_the_options_by_what_they_are_for() -> None:
    code, stdout, _ = load("--help")
    assert code == 0
    place = -1
    for heading in (
        "Which traffic", "When requests are sent", "What clients do about failures", "What requests hold",
        "What is promised, and what counts", "The search for the knee", "What is measured and written",
    ):  # fmt: skip
        assert stdout.find(f"─ {heading} ─") > place, heading
        place = stdout.find(f"─ {heading} ─")
    main = stdout[: stdout.find("─ Which traffic ─")]
    assert sum(line.lstrip("│ *").startswith("--") for line in main.splitlines()) <= 6  # server, model, where to write


def test_a_warm_up_by_kv_use_needs_a_server_that_tells_of_it(server: MockServer, tmp_path: Path) -> None:
    code, _, stderr = load(
        DEMO, "--url", server.url, "--model", "m", "--no-self-test", "--warm-up-kv", "-o", tmp_path / "out"
    )
    assert code == 2
    assert "has no /metrics that tell of KV caches" in stderr
