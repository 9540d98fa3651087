"""The documents on a fleet: what is written is read again, what is secret or of another form is not in it."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.decision_record import DecisionRecord, ForecastPoint
from autoscaler.interface import ReplicaState
from loadgen.records import Phase
from serve_app.config import AppConfig, read_serve_file
from serve_app.fleet_api import (
    FleetPage,
    describe_fleet,
    read_cursor,
    read_description,
    read_page,
    write_page,
)
from serve_app.traffic import Collected, CutOff, EngineSample

SERVE_FILES = sorted((Path(__file__).parents[2] / "configs/serve").glob("*.yaml"))

instants = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 2**40)
tokens = st.none() | counts
forecasts = st.builds(
    ForecastPoint,
    instants,
    instants,
    st.lists(instants, max_size=3).map(tuple),
    st.lists(instants, max_size=3).map(tuple),
)
decisions = st.builds(
    DecisionRecord,
    *(instants, counts, counts, st.text(), counts, counts, counts, counts, counts, counts, instants),
    st.none() | forecasts,
    error=st.none() | st.text(),
    granted_replicas=tokens,
)
samples = st.builds(
    EngineSample,
    *(st.text(), instants, instants, counts, counts, instants, counts, tokens, tokens, st.none() | instants),
    cut_off=st.lists(st.builds(CutOff, st.text(), st.sampled_from(Phase)), max_size=3).map(tuple),
)
logs = st.builds(
    Collected,
    st.lists(decisions, max_size=3).map(tuple),
    st.lists(samples, max_size=3).map(tuple),
    st.tuples(counts, counts),
    counts,
    st.booleans(),
)
pages = st.builds(FleetPage, logs, st.dictionaries(st.text(), st.sampled_from(ReplicaState), max_size=3))


@given(pages)
def test_a_page_that_is_written_is_read_again(page: FleetPage) -> None:
    found = read_page(write_page(page))
    assert found == page
    assert all(type(phase.phase) is Phase for sample in found.log.samples for phase in sample.cut_off)


@pytest.mark.parametrize("path", SERVE_FILES, ids=lambda path: path.stem)
def test_a_description_that_is_written_is_read_again(path: Path) -> None:
    app, _ = read_serve_file(path)
    described = describe_fleet(app)
    assert read_description(described.model_dump_json()) == described
    application = described.application()
    assert application["fleet"]["max_replicas"] == app.fleet.max_replicas
    assert application["policy"]["name"] == app.policy.name
    assert "burstscale_fleet" not in application


def test_nothing_of_an_engine_s_arguments_and_environment_is_told() -> None:
    values = read_serve_file(next(path for path in SERVE_FILES if "vllm_gpu" in path.stem))[0].model_dump(mode="json")
    values["engine"] |= {"env_vars": {"HF_TOKEN": "secret-1"}, "engine_kwargs": {"hf_token": "secret-2"}}
    values["api_key_env"] = "SECRET_3"
    document = describe_fleet(AppConfig.model_validate(values)).model_dump_json()
    assert "secret" not in document.lower()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"log": {"decisions": [], "samples": [], "cursor": [0, 0], "lost_lines": 0}, "replicas": {"a": "asleep"}}',
        '{"log": {"decisions": [], "samples": [], "cursor": ["0", 0], "lost_lines": 0}, "replicas": {}}',
        '{"log": {"decisions": [1], "samples": [], "cursor": [0, 0], "lost_lines": 0}, "replicas": {}}',
    ],
)
def test_what_is_no_page_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        read_page(text)


def test_a_description_of_another_version_is_refused() -> None:
    document = json.loads(describe_fleet(read_serve_file(SERVE_FILES[0])[0]).model_dump_json())
    with pytest.raises(ValueError, match="burstscale_fleet"):
        read_description(json.dumps(document | {"burstscale_fleet": 2}))
    with pytest.raises(ValueError, match="new_key"):
        read_description(json.dumps(document | {"new_key": 2}))


def test_a_cursor_is_two_counts_or_none() -> None:
    assert read_cursor({}) is None
    assert read_cursor({"decisions": "12", "samples": "0"}) == (12, 0)
    for query in ({"decisions": "1"}, {"decisions": "1", "samples": "-1"}, {"decisions": "1", "samples": "9" * 5000}):
        with pytest.raises(ValueError):
            read_cursor(query)
    with pytest.raises(ValueError, match="the query has limit; want decisions and samples"):
        read_cursor({"limit": "1"})
