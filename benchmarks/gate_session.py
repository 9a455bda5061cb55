"""A pytest plugin for the sessions of the gate: ``-p benchmarks.gate_session``.

It makes sure that the right `storage` is measured, writes a journal that survives a crash, and skips what costs time.
"""

import functools
import json
import platform
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

import storage
from benchmarks.cell import WRAP

IMPORTED = Path(storage.__file__).resolve().parent
WRONG_EXPRESSION = 6  # exit code, as reports.gate.session expects it; pytest's own end at 5


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that only the gate uses."""
    group = parser.getgroup("gate", "a session of the gate")
    group.addoption("--storage", type=Path, required=True, help="the folder that `storage` must come from")
    group.addoption("--journal", type=Path, required=True, help="which cells started, and why some weren't measured")
    group.addoption("--slow-cell", default="", metavar="ID", help="a cell to slow down")
    group.addoption("--slow-factor", type=float, default=1.0, help="how many times as long it takes")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to measure the wrong `storage`."""
    expected = config.getoption("storage").resolve()
    if expected != IMPORTED:
        raise pytest.UsageError(f"storage comes from {IMPORTED}, this session measures {expected}")


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None, None, None]:
    """Give a wrong -k expression its own exit code; leave out reference cells: the other side measures drift."""
    try:
        yield
    except pytest.UsageError as error:
        pytest.exit(str(error), WRONG_EXPRESSION)
    items[:] = [item for item in items if "reference" not in getattr(item, "fixturenames", ())]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Note in the journal that a cell starts, in case it kills the process; slow it down if asked to."""
    write_journal(item, {"started": item.nodeid})
    if item.nodeid == item.config.getoption("slow_cell"):
        factor = float(item.config.getoption("slow_factor"))
        item.stash[WRAP] = lambda function: slow_down(function, factor)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note in the journal why a cell failed or was skipped: there is no run if no cell was measured."""
    report = yield
    if call.excinfo is not None:
        write_journal(item, {"absent": item.nodeid, "reason": call.excinfo.exconly().partition("\n")[0]})
    return report


def write_journal(item: pytest.Item, line: dict[str, str]) -> None:
    """Append a line of JSON to the journal."""
    with item.config.getoption("journal").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def slow_down(function: Callable[..., Any], factor: float) -> Callable[..., Any]:
    """Return `function`, taking `factor` times as long: it computes until the time is over."""

    @functools.wraps(function)
    def slow(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - whatever the function takes and returns
        start = time.perf_counter()
        result = function(*arguments, **options)
        end = start + factor * (time.perf_counter() - start)
        while time.perf_counter() < end:
            pass
        return result

    return slow


def pytest_benchmark_generate_machine_info() -> dict[str, Any]:
    """Describe the machine without its processor: asking for that takes longer than many a session."""
    return {"machine": platform.machine(), "system": platform.system(), "release": platform.release()}


def pytest_benchmark_generate_commit_info() -> dict[str, Any]:
    """Leave the commit out: the gate knows it, this folder doesn't."""
    return {"id": "unversioned", "dirty": False}
