"""Which configurations of a vLLM engine are refused, and what Ray reserves for the others."""

from pathlib import Path
from typing import Any

import pytest
from vllm_serve import serve_args

from loadgen.errors import InputError
from loadgen.strict_config import parse
from serve_app.config import AppConfig
from testbed.tiny_model import make_tiny_model

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]
pytest.importorskip("vllm", reason="vLLM is not installed: make test-vllm installs it")


def vllm_config(tmp_path: Path, **engine: Any) -> AppConfig:
    args = serve_args(tmp_path)
    args["engine"] |= engine
    return parse(AppConfig, args, "test")


def test_a_model_folder_that_is_missing_says_how_to_make_one(tmp_path: Path) -> None:
    from serve_app.engines.vllm import vllm_deployment

    config = vllm_config(tmp_path, model_source="./models/none")
    with pytest.raises(InputError, match=r"no model in '\./models/none'.*burstscale tiny-model \./models/none"):
        vllm_deployment(config)


@pytest.mark.parametrize(
    ("accelerator", "gpus", "workers", "message"),
    [("cpu", 1.0, 1, "want 0"), ("gpu", 0.0, 1, "want 1"), ("gpu", 1.0, 2, "want 2")],
)
def test_a_number_of_gpus_that_cannot_be_right_is_refused(
    tmp_path: Path, accelerator: str, gpus: float, workers: int, message: str
) -> None:
    from serve_app.engines.vllm import llm_config

    make_tiny_model(tmp_path)
    args = serve_args(tmp_path, gpus_per_replica=gpus)
    args["engine"] |= {"accelerator": accelerator, "engine_kwargs": {"tensor_parallel_size": workers}}
    config = parse(AppConfig, args, "test")
    with pytest.raises(InputError, match=f"gpus_per_replica is {gpus:g}, {message}"):
        llm_config(config, config.engine)


@pytest.mark.parametrize(("gpus", "workers", "bundles"), [(1, 1, [1]), (2, 2, [1, 1]), (0.5, 1, [0.5])])
def test_ray_reserves_the_gpus_of_the_engines_workers(
    tmp_path: Path, gpus: float, workers: int, bundles: list[float]
) -> None:
    from serve_app.engines.vllm import llm_config

    make_tiny_model(tmp_path)
    args = serve_args(tmp_path, gpus_per_replica=gpus, cpus_per_replica=2)
    args["engine"] |= {
        "accelerator": "gpu",
        "accelerator_type": "A100",
        "engine_kwargs": {"tensor_parallel_size": workers},
    }
    config = parse(AppConfig, args, "test")
    made = llm_config(config, config.engine).get_engine_config()
    assert [bundle["GPU"] for bundle in made.placement_bundles] == bundles
    assert all(bundle["accelerator_type:A100"] > 0 for bundle in made.placement_bundles)
