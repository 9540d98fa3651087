"""A Ray to run on: the cluster that is there, else one on loopback that ends with the run."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray


@contextmanager
def ray_cluster(*, needed_cpus: float) -> Iterator[None]:
    """Use the cluster that `ray start` or RAY_ADDRESS names; where there is none, start one on loopback and end it.

    `needed_cpus` are logical: on a small machine the processes share the real processors.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(address="auto", log_to_driver=False)
    except ConnectionError:
        ray.init(
            address="local",
            _node_ip_address="127.0.0.1",
            include_dashboard=False,
            log_to_driver=False,
            num_cpus=max(os.cpu_count() or 1, math.ceil(needed_cpus)),
        )
    try:
        yield
    finally:
        ray.shutdown()
