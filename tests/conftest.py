"""What holds for all tests: Ctrl-C, and the Hypothesis profile that HYPOTHESIS_PROFILE names."""

import os
import signal

from hypothesis import HealthCheck, settings

# What a script runs in the background ignores Ctrl-C, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A slow shared machine must not fail a property: time is what pytest-timeout watches.
COMMON = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

settings.register_profile("dev", COMMON, max_examples=50)
settings.register_profile("ci", COMMON, max_examples=200, derandomize=True, print_blob=True)
settings.register_profile("long", COMMON, max_examples=20_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))
