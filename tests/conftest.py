"""Settings shared by all tests."""

from hypothesis import settings

# Derandomised: the same examples on every machine, so that a red run can be repeated.
settings.register_profile("lticore", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("lticore")
