"""A real Ray and Serve on loopback for the tests marked `ray`, one start per module."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

IMPORTABLE = Path(__file__).parent / "importable"  # what Ray's processes import as well as the tests
sys.path.insert(0, str(IMPORTABLE))

from live_serve import LiveServe, descendants, free_port, wait_for_end  # noqa: E402


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServe]:
    """Ray and Serve for one test module; nothing of them is left afterwards."""
    import ray
    from ray import serve

    started: set[int] = set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(IMPORTABLE), os.environ.get("PYTHONPATH")])))
        before = descendants(os.getpid())
        try:
            ray.init(
                address="local",
                _node_ip_address="127.0.0.1",
                include_dashboard=False,
                num_cpus=16,  # logical: replicas are small, the machine may have two
                log_to_driver=False,
                namespace="burstscale-tests",
            )
            port = free_port()
            serve.start(http_options={"host": "127.0.0.1", "port": port})
            yield LiveServe(port, tmp_path_factory.mktemp("live"))
        finally:
            started = descendants(os.getpid()) - before
            serve.shutdown()
            ray.shutdown()
    left = wait_for_end(started, within_s=20)
    assert not left, f"processes were left over: {left}"
