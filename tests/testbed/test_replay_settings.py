"""How a load generator sends is checked when it is read, in one line that names the key."""

import pytest

from loadgen.errors import InputError
from loadgen.pacing import BY_ARRIVAL, ByTurn, ByUser
from loadgen.strict_config import parse
from loadgen.trace import make_trace
from testbed.replay_settings import ReplaySettings


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"sessions": True, "users": 3}, "sessions and users are two ways to send"),
        ({"think_s": 1.0}, "think_s and duration_s are of a closed loop; give users too"),
        ({"duration_s": 10.0}, "think_s and duration_s are of a closed loop"),
        ({"warm_up_s": 1.0, "warm_up_kv": True}, "choose one"),
        ({"users": 0}, "'users'"),
        ({"warm_up_s": float("nan")}, "'warm_up_s'"),
        ({"temperature": -0.1}, "'temperature'"),
        ({"extra_body": {"stream": False}}, "sets 'stream' itself"),
        ({"headers": {"Content-Length": "1"}}, "sets 'content-length' itself"),
        ({"headers": {"x-a": "b\r\nx-c: d"}}, "no header can"),
        ({"user": 3}, "unknown key 'user'; known keys: actors"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_one_line(values: dict[str, object], said: str) -> None:
    with pytest.raises(InputError) as refused:
        parse(ReplaySettings, values, "here")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_requests_are_sent_open_loop_unless_told_otherwise() -> None:
    assert ReplaySettings().pacing(2.0, 60.0) is BY_ARRIVAL
    assert ReplaySettings(sessions=True).pacing(2.0, 60.0) == ByTurn(2.0)
    assert ReplaySettings(users=3).pacing(2.0, 60.0) == ByUser(3, 0.0, 60.0)
    assert ReplaySettings(users=3, think_s=1, duration_s=9).pacing(2.0, 60.0) == ByUser(3, 1.0, 9.0)


def test_bodies_get_the_temperature_and_what_is_added_last() -> None:
    assert ReplaySettings().body_fields() == {}
    settings = ReplaySettings(temperature=0.5, extra_body={"top_p": 0.9, "ignore_eos": None})
    assert settings.body_fields() == {"temperature": 0.5, "top_p": 0.9, "ignore_eos": None}


def test_with_free_lengths_the_recorded_lengths_are_limits_except_of_requests_that_failed() -> None:
    trace = make_trace("t", [0.0, 1.0], [1, 1], [5, 0], duration_s=2)
    limits = ReplaySettings(free_lengths=True).planned(trace).output_is_limit
    assert limits is not None
    assert limits.tolist() == [True, False]
    assert ReplaySettings().planned(trace) is trace


def test_a_warm_up_as_long_as_the_run_is_refused() -> None:
    trace = make_trace("t", [0.0], [1], [5], duration_s=20)
    with pytest.raises(InputError, match="warm_up_s is 20, and requests are sent for 20 s"):
        ReplaySettings(warm_up_s=20).planned(trace)
    with pytest.raises(InputError, match="sent for 5 s"):
        ReplaySettings(users=1, duration_s=5, warm_up_s=6).planned(trace)


def test_headers_go_to_the_server_beside_the_key_or_in_its_place() -> None:
    target = ReplaySettings(headers={"X-Team": "a b"}).target("http://h:1", "m", "key")
    assert target.headers == {"authorization": "Bearer key", "x-team": "a b"}
    replaced = ReplaySettings(headers={"Authorization": "Basic x"}).target("http://h:1", "m", "key")
    assert replaced.headers == {"authorization": "Basic x"}
