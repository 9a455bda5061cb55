"""Backends that a test file is about."""

from typing import Any

import pytest

from storage import BACKENDS, UNAVAILABLE


def take_backend(name: str) -> Any:  # noqa: ANN401 - a module, with more than the contract
    """Take a backend; where it is not here, skip the whole file of tests, with the reason."""
    if name not in BACKENDS:
        pytest.skip(UNAVAILABLE.get(name, f"storage/{name}.py is not here"), allow_module_level=True)
    return BACKENDS[name]
