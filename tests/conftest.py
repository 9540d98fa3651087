"""Settings of all tests."""

from hypothesis import settings

# The first example of a property may import or compile, and a shared machine may stall: time is no property.
settings.register_profile("burstscale", deadline=None)
settings.load_profile("burstscale")
