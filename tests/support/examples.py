"""How Hypothesis draws its examples in these tests: importing this sets it."""

from hypothesis import HealthCheck, settings

# How long an example takes depends on how busy the machine is. Each property test makes anew what its fixtures hold.
_CHECKS = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile("tests", database=None, deadline=None, suppress_health_check=_CHECKS)
settings.load_profile("tests")
