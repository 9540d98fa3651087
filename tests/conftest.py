"""Settings of all tests, and where the real data is."""

import signal
from pathlib import Path

import pytest
from hypothesis import settings

# A shell's background job ignores SIGINT, its children inherit that, and Python then raises no KeyboardInterrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The first example of a property may import or compile, and a shared machine may stall: time is no property.
settings.register_profile("burstscale", deadline=None)
settings.load_profile("burstscale")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real traces beside a checkout; tests that read it skip where it is absent."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real traces at {folder}: download them to run this test")
    return folder
