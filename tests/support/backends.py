"""Backends that a test file is about."""

from typing import Any

import pytest

from storage import BACKENDS, UNAVAILABLE

EXAMPLES = tuple(name for name in ("hdf5", "lmdb", "png", "npy", "tar") if name in BACKENDS)[:3]
EXAMPLE = EXAMPLES[0]
"""Backends for what is alike in all of them."""

PIXELS = tuple(name for name in BACKENDS if "pixels" in BACKENDS[name].INFO.kinds)
"""Backends that accept pixels."""


def need_backend(name: str) -> pytest.MarkDecorator:
    """Mark what takes a backend as its example: it is skipped where that is not here, with the reason."""
    return pytest.mark.skipif(name not in BACKENDS, reason=explain_absence(name))


def explain_absence(name: str) -> str:
    return UNAVAILABLE.get(name, f"storage/{name}.py is not here")


def require_backend(name: str) -> None:
    """Skip a test whose backend is not here, with the reason."""
    if name not in BACKENDS:
        pytest.skip(explain_absence(name))


def take_backend(name: str) -> Any:  # noqa: ANN401 - a module, with more than the contract
    """Take a backend for a file of tests about it: the whole file is skipped where it is not here, with the reason."""
    if name not in BACKENDS:
        pytest.skip(explain_absence(name), allow_module_level=True)
    return BACKENDS[name]


def take_family(*names: str) -> dict[str, Any]:
    """Take the backends of a family that are here, for a file of tests about all of them."""
    return {name: BACKENDS[name] for name in names if name in BACKENDS} or {names[0]: take_backend(names[0])}
