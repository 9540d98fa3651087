"""The application that `serve run configs/serve/*.yaml` loads: an OpenAI-compatible front and a fleet of engines."""

from typing import Any

from ray import serve
from ray.serve import Application

from autoscaler.simulator.cost_model import load_hardware
from forecasting.registry import make_forecaster
from loadgen.errors import InputError
from loadgen.strict_config import parse
from serve_app.config import AppConfig, EmulatedEngine
from serve_app.deployment_options import QUIET
from serve_app.engines.protocol import INGRESS_DEPLOYMENT
from serve_app.fleet_api import describe_fleet
from serve_app.guarded_policy import build_policy
from serve_app.ingress import Ingress
from serve_app.router_settings import check_live_router

MAX_OPEN_REQUESTS = 100_000  # the router's own limits are far lower, and they answer with a reason


def build_app(args: dict[str, Any]) -> Application:
    """Build the application from the `args` of a Serve config file.

    Raises:
        InputError: a key, the policy, the forecaster, the hardware profile, the model or the routing is wrong, or the
            fleet has a warm pool.
    """
    config = parse(AppConfig, args, "application args")
    if config.fleet.warm_pool is not None:
        raise InputError(
            "application args: 'fleet.warm_pool' is simulated alone, Serve keeps none; remove it, or use `burstscale "
            "simulate`"
        )
    check_live_router(config.router)
    build_policy(config)  # here a wrong name is a message to the user; in Serve's controller it would be a log line
    if config.forecaster is not None:
        forecaster = config.forecaster
        make_forecaster(forecaster.name, bin_s=forecaster.bin_s, levels=forecaster.levels, **forecaster.params)
    engine, max_model_tokens = _engine(config)
    ingress = serve.deployment(Ingress).options(
        name=INGRESS_DEPLOYMENT,
        num_replicas=1,
        max_ongoing_requests=MAX_OPEN_REQUESTS,
        graceful_shutdown_timeout_s=config.fleet.drain_timeout_s,
        logging_config=QUIET,
        ray_actor_options={"num_cpus": 0.1},
    )
    application: Application = ingress.bind(config, describe_fleet(config), max_model_tokens, engine)
    return application


def _engine(config: AppConfig) -> tuple[Any, int | None]:
    """The bound engine deployment, and the longest request in tokens where the ingress can tell it."""
    if isinstance(config.engine, EmulatedEngine):
        from serve_app.engines.emulated import emulated_deployment

        hardware = load_hardware(config.engine.hardware)
        return emulated_deployment(config, config.engine, hardware), hardware.max_model_tokens
    from serve_app.engines.vllm import vllm_deployment  # imports vLLM: only where it is asked for

    return vllm_deployment(config), None
