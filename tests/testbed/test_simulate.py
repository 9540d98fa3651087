"""What a simulated run leaves out when it is long, and what it never leaves out; and its engines' prefix cache."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from autoscaler.simulator.engine_options import AdmissionOrder, EngineOptions, Preemption
from loadgen.errors import InputError
from loadgen.strict_config import parse
from serve_app.config import EmulatedEngine, EngineScheduling, VllmEngine, read_serve_file
from testbed import simulate
from testbed.config import Overrides, load_experiment
from testbed.results import Results, read_results
from testbed.simulate import fleet_of, simulate_experiment

CONFIGS = Path(__file__).parents[2] / "configs"
QUICKSTART, SERVE_VLLM = CONFIGS / "experiments/quickstart.yaml", CONFIGS / "serve/vllm_gpu.yaml"


def run(folder: Path, policy: str) -> Results:
    experiment = load_experiment(QUICKSTART, Overrides(policy=policy))
    return read_results(simulate_experiment(experiment, folder, lambda *_: None))


def test_a_long_run_makes_no_forecasts_for_a_rule_that_sees_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tmp_path / "whole", "ray-default")
    assert any(line["forecast"] for line in whole.decisions)
    monkeypatch.setattr(simulate, "RECORDED_INSTANTS", 9)  # of 90 s: one every ten seconds
    long = run(tmp_path / "long", "ray-default")
    assert not any(line["forecast"] for line in long.decisions)
    assert len(long.decisions) < len(whole.decisions) / 3
    assert long.records.equals(whole.records)
    assert long.replicas.equals(whole.replicas)


def test_a_policy_that_goes_by_forecasts_has_them_in_a_long_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulate, "RECORDED_INSTANTS", 9)
    assert any(line["forecast"] for line in run(tmp_path / "run", "forecast-quantile").decisions)


def test_an_engine_with_a_prefix_cache_computes_a_common_beginning_once(tmp_path: Path) -> None:
    """Twenty prompts of 2,048 tokens that differ in their last 512, as Mooncake's format records them."""
    lines = [
        json.dumps(
            {"timestamp": place * 1000, "input_length": 2048, "output_length": 2, "hash_ids": [1, 2, 3, place + 4]}
        )
        for place in range(20)
    ]
    trace = tmp_path / "mooncake.jsonl"
    trace.write_text("\n".join(lines) + "\n")
    mean_ttft_s, notes, found = {}, {}, {}
    for is_on in (False, True):
        experiment = load_experiment(QUICKSTART, Overrides(traffic=trace, replicas=1))
        engine = experiment.app.engine.model_copy(update={"prefix_caching": is_on})
        app = experiment.app.model_copy(update={"engine": engine})
        results = read_results(
            simulate_experiment(replace(experiment, app=app), tmp_path / str(is_on), lambda *_: None)
        )
        assert results.summary is not None
        mean_ttft_s[is_on] = results.summary["requests"]["total"]["ttft"]["mean_s"]
        notes[is_on] = results.environment["notes"]
        found[is_on] = results.summary["prefix_cache"]
        assert ("of the tokens to prefill" in (results.path / "report.html").read_text()) == is_on
    assert mean_ttft_s[True] < 0.5 * mean_ttft_s[False]
    assert notes == {False: [], True: []}
    # 19 of 20 prompts find the three blocks of 512 that are common.
    assert found[False] is None
    assert found[True] == {
        "looked_up_tokens": 20 * 2048,
        "found_tokens": 19 * 1536,
        "found_fraction": 19 * 1536 / (20 * 2048),
    }


def test_a_reader_is_told_where_nothing_can_be_found_in_the_prefix_cache(tmp_path: Path) -> None:
    overrides = Overrides(serve=SERVE_VLLM, replicas=1, selection={"limit_s": 20.0})
    results = read_results(
        simulate_experiment(load_experiment(QUICKSTART, overrides), tmp_path / "run", lambda *_: None)
    )
    assert "does not say which prompts begin alike" in results.environment["notes"][0]


def test_vllm_has_a_prefix_cache_unless_told_otherwise() -> None:
    engine = read_serve_file(SERVE_VLLM)[0].engine
    assert isinstance(engine, VllmEngine)
    cases: list[tuple[dict[str, object], bool]] = [
        ({}, True),
        ({"enable_prefix_caching": None}, True),
        ({"enable_prefix_caching": False}, False),
    ]
    for arguments, is_on in cases:
        assert engine.model_copy(update={"engine_kwargs": arguments}).prefix_caching is is_on
    assert not EmulatedEngine(kind="emulated", hardware="tiny-cpu").prefix_caching


def test_the_scheduling_of_the_engine_section_reaches_the_simulated_engines() -> None:
    experiment = load_experiment(QUICKSTART, Overrides())
    asked = {"order": "shortest_predicted", "prediction_sigma": 0.5, "preemption": "swap", "watermark_fraction": 0.01}
    values = experiment.app.engine.model_dump() | {"scheduling": asked}
    app = experiment.app.model_copy(update={"engine": parse(EmulatedEngine, values, "engine")})
    assert fleet_of(replace(experiment, app=app)).engine == EngineOptions(
        order=AdmissionOrder.SHORTEST_PREDICTED,
        prediction_sigma=0.5,
        preemption=Preemption.SWAP,
        watermark_fraction=0.01,
    )
    assert fleet_of(experiment).engine == EngineOptions()
    vllm = read_serve_file(SERVE_VLLM)[0].engine.model_copy(update={"engine_kwargs": {"watermark": 0.02}})
    assert vllm.options == EngineOptions(watermark_fraction=0.02)


def test_an_unknown_order_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(InputError, match="'fcfs', 'priority' or 'shortest_predicted'"):
        parse(EngineScheduling, {"order": "lifo"}, "engine.scheduling")
