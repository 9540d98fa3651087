"""The options of router and clients in YAML: what simulated and live runs make of them."""

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from autoscaler.simulator.fleet_config import FleetConfig
from autoscaler.simulator.router_state import QueueOrder, RouterConfig, Routing
from loadgen.client_config import SEND_ONCE, ClientConfig
from loadgen.errors import InputError
from loadgen.strict_config import parse
from serve_app.config import read_serve_file
from serve_app.router_settings import LIVE_ROUTINGS, RouterSettings, check_live_router
from testbed.client_settings import ClientSettings, client_config_of
from testbed.config import Experiment, Overrides, load_experiment
from testbed.simulate import fleet_of

ROOT = Path(__file__).parents[2]


def experiment(folder: Path, router: dict[str, Any], client: dict[str, Any] | None) -> Experiment:
    """The quickstart with these options of the router and the clients."""
    values = yaml.safe_load((ROOT / "configs/experiments/quickstart.yaml").read_text())
    app, _ = read_serve_file(ROOT / "configs/serve/emulated.yaml")
    values["workload"]["model"] = str(ROOT / "configs/workloads/burst_demo.yaml")
    values["serve"] = {**app.model_dump(mode="json"), "router": router}
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(values if client is None else {**values, "client": client}))
    return load_experiment(path, Overrides())


def simulated(folder: Path, router: dict[str, Any], client: dict[str, Any] | None = None) -> FleetConfig:
    """The fleet that is simulated."""
    return fleet_of(experiment(folder, router, client))


def test_a_file_without_these_options_means_the_simulators_defaults(tmp_path: Path) -> None:
    fleet = simulated(tmp_path, {})
    assert fleet.router == RouterConfig()
    assert fleet.client is None


def test_options_in_the_files_reach_the_simulated_fleet(tmp_path: Path) -> None:
    router = {"routing": "kv-aware", "queue_order": "fifo", "kv_watermark_fraction": 0.9, "overlap_weight": 2}
    fleet = simulated(tmp_path, {**router, "retry_after_s": 7}, {"timeout_s": 10, "max_attempts": 4})
    assert fleet.router == RouterConfig(
        routing=Routing.KV_AWARE, queue_order=QueueOrder.FIFO, kv_watermark_fraction=0.9, overlap_weight=2.0
    )
    assert fleet.retry_after_s == 7
    assert fleet.client == ClientConfig(timeout_s=10.0, max_attempts=4)
    assert ClientSettings().client_config == ClientConfig()
    assert ClientSettings().client_config.timeout_s == math.inf


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"routing": "fastest"}, "routing"),
        ({"queue_order": "lifo"}, "queue_order"),
        ({"kv_watermark_fraction": 1.5}, "kv_watermark_fraction"),
    ],
)
def test_a_choice_that_does_not_exist_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(RouterSettings, settings, "router")


def test_a_live_fleet_refuses_in_one_line_what_only_a_simulated_one_does() -> None:
    for routing in LIVE_ROUTINGS:
        check_live_router(RouterSettings(routing=routing, queue_order=QueueOrder.FIFO))
    with pytest.raises(InputError) as refused:
        check_live_router(RouterSettings(routing=Routing.KV_AWARE))
    assert str(refused.value) == (
        "router.routing is 'kv-aware', which is simulated only; "
        "live choose least-outstanding, round-robin, power-of-two"
    )
    with pytest.raises(InputError, match=r"kv_watermark_fraction is 0\.5, which is simulated only"):
        check_live_router(RouterSettings(kv_watermark_fraction=0.5))


def test_clients_that_are_not_described_send_once_and_wait() -> None:
    assert client_config_of(None) == SEND_ONCE == ClientConfig(timeout_s=math.inf, max_attempts=1)
    assert client_config_of(ClientSettings(timeout_s=2.0)) == ClientConfig(timeout_s=2.0)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"max_attempts": 0}, "'max_attempts'"),
        ({"timeout_s": 0}, "'timeout_s'"),
        ({"backoff_s": float("inf")}, "'backoff_s'"),
        ({"jitter_fraction": 1.5}, "'jitter_fraction'"),
        ({"retries": 2}, "unknown key 'retries'; known keys: backoff_s, honours_retry_after"),
    ],
)
def test_clients_that_cannot_be_are_refused_in_one_line(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as refused:
        parse(ClientSettings, values, "client")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
