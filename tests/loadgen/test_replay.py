"""A whole replay: real Ray actors, real HTTP, one record for each request of the trace."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from loadgen import crew, sender_silence
from loadgen.errors import InputError
from loadgen.prompts.source import PromptSettings, open_prompts
from loadgen.prompts.synthetic import synthetic_prompts
from loadgen.questions import Questions
from loadgen.records import RECORD_SCHEMA
from loadgen.replay import ReplayOutcome, replay
from loadgen.replay_progress import ReplayProgress
from loadgen.target import Target
from loadgen.trace import Trace

DEADLINES_S = {"conversation": 5.0, "api": 5.0}


class PromptsThatTellTheProcess:
    """Leave the id of the process that uses them as a file's name, with its niceness in the file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def texts(self, trace: Trace, rows: Sequence[int], seed: int) -> Iterator[str]:
        (self._folder / str(os.getpid())).write_text(str(os.getpriority(os.PRIO_PROCESS, 0)))
        return synthetic_prompts().texts(trace, rows, seed)


def strike_one(processes: Path, number: signal.Signals, victims: list[int]) -> Callable[[ReplayProgress], None]:
    """Send a signal to one of the actors that left their ids in `processes`, once each has answers; notes which."""

    def strike(progress: ReplayProgress) -> None:
        if progress.ok >= 10 and not victims:
            victims.append(int(next(processes.iterdir()).name))
            os.kill(victims[0], number)

    return strike


class PromptsThatFail:
    """Have no prompt of any length."""

    def texts(self, trace: Trace, rows: Sequence[int], seed: int) -> Iterator[str]:  # noqa: ARG002
        raise InputError(f"no prompt of {trace.prompt_tokens[0]} tokens could be made; take another tokenizer")


class PromptsThatFreeze:
    """Stop the process that wants them."""

    def texts(self, trace: Trace, rows: Sequence[int], seed: int) -> Iterator[str]:
        os.kill(os.getpid(), signal.SIGSTOP)
        return synthetic_prompts().texts(trace, rows, seed)


def even_trace(requests: int, gap_s: float, output_tokens: int = 3) -> Trace:
    """Alternating conversations and API requests, one every `gap_s`."""
    return Trace(
        name="even",
        duration_s=requests * gap_s,
        arrival_s=np.arange(requests) * gap_s,
        prompt_tokens=np.full(requests, 4, dtype=np.int32),
        output_tokens=np.full(requests, output_tokens, dtype=np.int32),
        service=(np.arange(requests) % 2).astype(np.int8),
        model=np.zeros(requests, dtype=np.int16),
        session=np.arange(requests),
        model_names=("x",),
    )


def run(url: str, trace: Trace, folder: Path, **changes: Any) -> ReplayOutcome:
    settings: dict[str, Any] = {
        "deadlines_s": DEADLINES_S,
        "actors": 2,
        "out_dir": folder,
        "prompts": synthetic_prompts(),
        "rng": np.random.default_rng(0),
    }
    return replay(trace, Target(url, "m"), **{**settings, **changes})


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A Ray of its own on loopback."""
    ray.init(
        address="local",
        _node_ip_address="127.0.0.1",
        include_dashboard=False,
        num_cpus=16,
        log_to_driver=False,
        object_store_memory=100 * 2**20,
    )
    yield
    ray.shutdown()


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_every_request_arrives_at_its_instant_and_has_its_record(server: Any, tmp_path: Path) -> None:
    server.script_for = server.stream(ttft_s=0.1, gap_s=0.02)
    trace = even_trace(requests=60, gap_s=0.05)
    starts_s: list[float] = []
    seen: list[ReplayProgress] = []
    clock_gap_s = time.time() - time.monotonic()
    outcome = run(server.url, trace, tmp_path, on_start=starts_s.append, on_progress=seen.append)

    assert outcome.table.schema == RECORD_SCHEMA
    assert outcome.table["request_id"].to_pylist() == list(range(60))
    assert set(outcome.table["status"].to_pylist()) == {"ok"}
    assert set(outcome.table["output_tokens"].to_pylist()) == {3}
    assert outcome.table["service"].to_pylist()[:2] == ["conversation", "api"]
    assert (starts_s, outcome.is_interrupted, outcome.lost_actors) == ([outcome.start_epoch_s], False, ())

    start_monotonic_s = outcome.start_epoch_s - clock_gap_s
    due_s = {int(ask.headers["x-request-id"].split("-")[1]): ask.arrived_s for ask in server.asked()}
    lags_s = sorted(due_s[i] - start_monotonic_s - trace.arrival_s[i] for i in range(60))
    assert lags_s[0] > -0.005  # none early, but for the reading of two clocks
    assert lags_s[30] < 0.05
    assert {ask.path for ask in server.asked()} == {"/v1/chat/completions", "/v1/completions"}

    ttft_s = np.array(outcome.table["first_token_s"]) - np.array(outcome.table["scheduled_s"])
    assert ttft_s.min() >= 0.1
    assert np.median(ttft_s) < 0.2
    assert (seen[-1].planned, seen[-1].sent, seen[-1].finished, seen[-1].ok) == (60, 60, 60, 60)
    assert 0 < seen[len(seen) // 2].sent <= 60
    assert seen[-1].ttft_p50_s == pytest.approx(float(np.median(ttft_s)))


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_real_text_goes_out_once_each_however_many_actors_share_it(server: Any, tmp_path: Path) -> None:
    texts = tmp_path / "texts.jsonl"
    turns = [[{"role": "user", "content": f"{number} of these texts"}] for number in range(40)]
    texts.write_text("\n".join(json.dumps({"messages": messages}) for messages in turns))
    prompts = open_prompts(PromptSettings(source=texts, tokenizer="words"))
    sent: list[dict[str, str]] = []
    for actors in (1, 3):
        out = tmp_path / str(actors)
        out.mkdir()
        outcome = run(server.url, even_trace(40, 0.01), out, prompts=prompts, actors=actors)
        assert set(outcome.table["status"].to_pylist()) == {"ok"}
        assert sorted(out.iterdir()) == sorted(outcome.parts)  # no file of bodies is left
        asked = server.asked()[-40:]
        bodies = {ask.headers["x-request-id"].split("-")[1]: ask.body for ask in asked}
        sent.append({row: body.get("prompt") or body["messages"][0]["content"] for row, body in bodies.items()})
    assert sent[0] == sent[1]
    assert set(sent[0].values()) == {messages[0]["content"] for messages in turns}


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_an_actor_that_is_killed_leaves_its_requests_as_lost_and_the_others_ok(server: Any, tmp_path: Path) -> None:
    processes, out = tmp_path / "processes", tmp_path / "out"
    processes.mkdir()
    out.mkdir()
    server.script_for = server.stream(ttft_s=0.5)  # so that some are on their way at any time
    outcome = run(
        server.url,
        even_trace(80, 0.05),
        out,
        prompts=PromptsThatTellTheProcess(processes),
        on_progress=strike_one(processes, signal.SIGKILL, []),
    )
    niceness = {int(each.read_text()) for each in processes.iterdir()}
    assert niceness == {os.getpriority(os.PRIO_PROCESS, 0)}  # Ray's own processes yield to all others
    rows = outcome.table.to_pylist()
    lost = [row for row in rows if row["status"] != "ok"]
    assert [row["request_id"] for row in rows] == list(range(80))
    assert 0 < len(lost) < 40  # it had ended some of its 40
    assert len({row["request_id"] % 2 for row in lost}) == 1  # all of one actor's shard
    assert {(row["status"], row["cause"]) for row in lost} == {("cancelled", "client_lost")}
    assert len(outcome.lost_actors) == 1
    assert outcome.lost_actors[0].startswith(f"actor {lost[0]['request_id'] % 2} on ")
    arrived = {int(ask.headers["x-request-id"].split("-")[1]) for ask in server.asked()}
    noted = {row["request_id"] for row in lost if row["sent_s"] is not None}
    assert noted == arrived & {row["request_id"] for row in lost}  # what was sent is told from what was not
    assert 0 < len(noted) < len(lost)
    assert {row["attempts"] for row in lost if row["request_id"] in noted} == {1}
    assert {row["attempts"] for row in lost if row["request_id"] not in noted} == {0}
    assert {path.suffix for path in outcome.parts} == {".jsonl", ".sent", ".json"}


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_an_actor_that_is_frozen_is_lost_after_its_time_and_ended(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_silence, "LONGEST_SILENCE_S", 6.0)
    processes, out = tmp_path / "processes", tmp_path / "out"
    processes.mkdir()
    out.mkdir()
    victims: list[int] = []
    outcome = run(
        server.url,
        even_trace(60, 0.05),
        out,
        prompts=PromptsThatTellTheProcess(processes),
        on_progress=strike_one(processes, signal.SIGSTOP, victims),
    )
    rows = outcome.table.to_pylist()
    lost = [row for row in rows if row["status"] != "ok"]
    assert [row["request_id"] for row in rows] == list(range(60))
    assert 0 < len(lost) < 30
    assert {row["cause"] for row in lost} == {"client_lost"}
    (said,) = outcome.lost_actors
    assert said.startswith(f"actor {lost[0]['request_id'] % 2} on ")
    assert said.endswith(": no sign of life for 6 s, so that its process was ended")
    with pytest.raises(ProcessLookupError):
        os.kill(victims[0], 0)


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_an_interrupted_replay_ends_at_once_with_the_records_that_there_are(server: Any, tmp_path: Path) -> None:
    def interrupt(progress: ReplayProgress) -> None:
        if progress.ok:
            os.kill(os.getpid(), signal.SIGINT)

    began_s = time.monotonic()
    outcome = run(server.url, even_trace(200, 0.2), tmp_path, on_progress=interrupt)
    assert outcome.is_interrupted
    assert time.monotonic() - began_s < 20  # of a trace of 40 s
    statuses = outcome.table["status"].to_pylist()
    assert 0 < statuses.count("ok") < 200
    assert statuses.count("ok") + statuses.count("cancelled") == 200
    assert set(outcome.table["cause"].to_pylist()) == {None, "run_ended"}


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_what_is_wrong_in_an_actors_preparation_reaches_the_user_in_one_line(server: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^no prompt of 4 tokens could be made; take another tokenizer$"):
        run(server.url, even_trace(4, 0.1), tmp_path, prompts=PromptsThatFail())
    assert server.asked() == []


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_an_actor_that_is_frozen_before_the_start_is_one_line(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "LONGEST_ANSWER_S", 3.0)
    with pytest.raises(InputError, match=r"a process there has given no answer for .* and nothing was sent"):
        run(server.url, even_trace(4, 0.1), tmp_path, prompts=PromptsThatFreeze(), actors=1)
    assert server.asked() == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trace": even_trace(0, 1.0)}, "trace 'even': holds no request"),
        ({"actors": 0}, "actors is 0, want an integer >= 1"),
        ({"deadlines_s": {"api": 5.0}}, "service conversation has no deadline"),
        ({"out_dir": Path("/nowhere/at/all")}, "/nowhere/at/all: is not a folder"),
    ],
)
def test_bad_input_is_refused_before_any_process_starts(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    trace = changes.pop("trace", even_trace(4, 0.1))
    with pytest.raises(InputError, match=message):
        run("http://127.0.0.1:1", trace, tmp_path, **changes)


def test_a_folder_that_holds_a_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "records.part-000.jsonl").write_text("precious")
    with pytest.raises(InputError, match="the folder holds a run already"):
        run("http://127.0.0.1:1", even_trace(4, 0.1), tmp_path)
    assert (tmp_path / "records.part-000.jsonl").read_text() == "precious"


@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
def test_who_has_not_answered_yet_is_not_asked_again(tmp_path: Path) -> None:
    is_awake = tmp_path / "is_awake"
    asked: list[int] = []

    @ray.remote(num_cpus=0)
    def say_when_awake(number: int) -> int:
        while number == 7 and not is_awake.exists():
            time.sleep(0.01)
        return number

    def ask(number: int) -> Any:
        asked.append(number)
        return say_when_awake.remote(number)

    questions = Questions(ask)
    told = [questions.answers([3, 7], 1.0) for _ in range(3)]
    assert all(7 not in each for each in told)
    assert asked.count(7) == 1
    is_awake.touch()
    assert questions.answers([7], 60.0)[7] == 7
