"""One block of the gate: a short session, in a fresh process, on one of the two `storage` that are compared.

A plugin, loaded by ``-p benchmarks.gate_session``. It verifies what is measured, and leaves out what no block needs.
"""

import gc
import os
import platform
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

import storage
from benchmarks.slowdowns import VARIABLE, SlowBackend, read_slowdown

IMPORTED = Path(storage.__file__).resolve().parent


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that says which `storage` this block must measure."""
    parser.addoption("--storage", type=Path, required=True, help="the folder that `storage` must come from")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to measure another `storage` than this block should."""
    expected = config.getoption("storage").resolve()
    if expected != IMPORTED:
        raise pytest.UsageError(f"storage comes from {IMPORTED}, this block measures {expected}")


def pytest_collection_finish() -> None:
    """Settle the garbage collector: looking at all that exists before each cell took a fifth of a block."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Slow the backend while a cell runs that should be slower."""
    with pytest.MonkeyPatch.context() as patch:
        if isinstance(item, pytest.Function) and VARIABLE in os.environ:
            slowdown = read_slowdown(os.environ[VARIABLE])
            if item.nodeid in slowdown.cells:
                name, operation = str(item.callspec.params["backend"]), item.originalname.removeprefix("test_")
                slow = {name: SlowBackend(storage.BACKENDS[name], operation, slowdown)}
                for room in ("cells", "workers"):
                    patch.setattr(f"benchmarks.{room}.BACKENDS", slow)
        return (yield)


def pytest_benchmark_generate_machine_info() -> dict[str, Any]:
    """Describe the machine without asking for the processor, which takes longer than many a block."""
    return {"machine": platform.machine(), "system": platform.system(), "release": platform.release()}


def pytest_benchmark_generate_commit_info() -> dict[str, Any]:
    """Leave the commit out: the gate knows it, the folder of a block does not."""
    return {"id": "unversioned", "dirty": False}
