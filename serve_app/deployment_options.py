"""How Serve runs the engine deployment, whichever engine it hosts."""

import warnings
from typing import Any

from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, RequestRouterConfig
from ray.serve.schema import LoggingConfig

from serve_app.config import HEALTH_CHECK_PERIOD_S, AppConfig
from serve_app.engines.protocol import ENGINE_DEPLOYMENT

QUIET = LoggingConfig(enable_access_log=False)  # a log line per request and hop costs more than it tells


def engine_deployment_options(config: AppConfig) -> dict[str, Any]:
    """Options of `serve.deployment` for an engine: its name, fleet, policy, router, draining and resources.

    Serve's own delays are 0 and its factors 1: the policy has delays of its own, and Serve's would add to them.
    """
    fleet = config.fleet
    return {
        "name": ENGINE_DEPLOYMENT,
        "max_ongoing_requests": fleet.max_ongoing_requests,
        "graceful_shutdown_timeout_s": fleet.drain_timeout_s,
        "graceful_shutdown_wait_loop_s": 0.5,
        "health_check_period_s": HEALTH_CHECK_PERIOD_S,
        "logging_config": QUIET,
        "ray_actor_options": {"num_cpus": fleet.cpus_per_replica, "num_gpus": fleet.gpus_per_replica},
        "request_router_config": RequestRouterConfig(
            request_router_class="serve_app.replica_router:ChosenReplicaRouter"
        ),
        "autoscaling_config": _autoscaling(config),
    }


def _autoscaling(config: AppConfig) -> AutoscalingConfig:
    fleet, control = config.fleet, config.control
    with warnings.catch_warnings():
        # Said to be replaced by environment variables that nothing in Serve 2.60 reads.
        warnings.filterwarnings("ignore", message="The `metrics_interval_s` field", category=DeprecationWarning)
        return AutoscalingConfig(
            min_replicas=fleet.min_replicas,
            max_replicas=fleet.max_replicas,
            initial_replicas=fleet.initial_replicas,
            metrics_interval_s=control.metrics_interval_s,
            look_back_period_s=5 * control.metrics_interval_s,
            upscale_delay_s=0,
            downscale_delay_s=0,
            downscale_to_zero_delay_s=0,
            upscaling_factor=1,
            downscaling_factor=1,
            policy=AutoscalingPolicy(
                policy_function="serve_app.serve_policy:ServePolicy",
                policy_kwargs={"config": config.model_dump(mode="json")},
            ),
        )
