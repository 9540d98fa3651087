"""What `serve run` loads: every application of configs/serve builds, and mistakes are one line."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from loadgen.errors import InputError
from loadgen.strict_config import parse
from serve_app.app import build_app
from serve_app.config import AppConfig

FOLDER = Path(__file__).parents[2] / "configs" / "serve"


def arguments(path: Path) -> dict[str, Any]:
    """The `args` of the first application in a Serve config file."""
    found: dict[str, Any] = yaml.safe_load(path.read_text())["applications"][0]["args"]
    return found


@pytest.fixture
def args() -> dict[str, Any]:
    """A copy of the emulated application's arguments."""
    return copy.deepcopy(arguments(FOLDER / "emulated.yaml"))


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_serve_file_is_a_valid_serve_config(path: Path) -> None:
    """Its form is Serve's, its arguments are ours."""
    from ray.serve.schema import ServeDeploySchema

    schema = ServeDeploySchema.model_validate(yaml.safe_load(path.read_text()))
    assert schema.applications[0].import_path == "serve_app.app:build_app"
    parse(AppConfig, arguments(path), str(path))


def test_the_emulated_application_is_an_ingress_bound_to_an_engine(args: dict[str, Any]) -> None:
    """The engine's deployment carries the fleet's limits and our policy; the factors and delays of Serve are off."""
    from serve_app.deployment_options import engine_deployment_options

    application = build_app(args)
    assert application._bound_deployment.name == "ingress"
    args["fleet"] |= {"min_replicas": 1, "initial_replicas": 2, "max_replicas": 12, "max_ongoing_requests": 32}
    options = engine_deployment_options(parse(AppConfig, args, "test"))
    scaling = options["autoscaling_config"]
    fleet = args["fleet"]
    for limit in ("min_replicas", "initial_replicas", "max_replicas"):
        assert getattr(scaling, limit) == fleet[limit]
    assert (scaling.upscale_delay_s, scaling.downscale_delay_s) == (0, 0)
    assert scaling.policy.policy_function == "serve_app.serve_policy:ServePolicy"
    assert options["max_ongoing_requests"] == fleet["max_ongoing_requests"]


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("fleet", {"replicas": 3}, "unknown key 'fleet.replicas'; known keys: .*max_replicas"),
        ("policy", {"name": "nope"}, "unknown policy 'nope'; known: "),
        ("policy", {"params": {"levell": 0.9}}, "levell"),
        ("forecaster", {"name": "nope"}, "nope"),
        ("forecaster", {"bin_s": 2.5}, "multiple of control.arrivals_bin_s"),
        ("engine", {"hardware": "nope"}, "unknown hardware 'nope'; known: "),
    ],
)
def test_a_mistake_is_one_line(args: dict[str, Any], section: str, change: dict[str, Any], message: str) -> None:
    """It names the place, what was got, and what is known."""
    args[section] |= change
    with pytest.raises(InputError, match=message) as error:
        build_app(args)
    assert "\n" not in str(error.value)
