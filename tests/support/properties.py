"""Hypothesis, or a skip of the whole file of tests that imports it from here."""

import pytest

pytest.importorskip("hypothesis", reason="Hypothesis is not installed: python -m pip install -e '.[test]'")

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

__all__ = ["arrays", "example", "given", "settings", "st"]

settings.register_profile(
    "suite",
    deadline=None,  # a test never measures time: other processes may slow it down
    derandomize=True,  # new examples must not fail somebody else's build
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("suite")
