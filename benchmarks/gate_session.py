"""A pytest plugin for the sessions of the gate: ``-p benchmarks.gate_session``.

It makes sure that the right `storage` is measured, takes turns with the other side, writes a journal that survives a
crash, and skips what costs time.
"""

import importlib.util
import json
import os
import platform
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

import storage
from benchmarks.cell import PAUSE
from benchmarks.options import add_modules
from storage import BACKENDS, UNAVAILABLE

IMPORTED = Path(storage.__file__).resolve().parent
TURNS = "IMAGE_STORAGE_TURNS"  # the descriptor on which a session says what it is ready for, and waits; its processor
CELL, ROUND = b"c", b"r"  # what it is ready for
TURN = 0.002  # seconds after which it is the other side's turn
PROCESSORS = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set[int]()
NO_CELLS, WRONG_EXPRESSION = 5, 6  # exit codes, as reports.gate.session expects them; pytest's own end at 5
NO_BACKEND = "it isn't a backend here"  # as reports.gate.pairs expects it


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that only the gate uses."""
    group = parser.getgroup("gate", "a session of the gate")
    group.addoption("--measured", type=Path, required=True, help="the code that must be measured, in this worktree")
    group.addoption("--journal", type=Path, required=True, help="what started, and why the rest wasn't measured")


@pytest.hookimpl(tryfirst=True)  # before the suite reads its options
def pytest_configure(config: pytest.Config) -> None:
    """Refuse to measure the wrong code; leave out backends that this side lacks, and note why."""
    expected = config.getoption("measured").resolve()
    if expected.parent / "storage" != IMPORTED:
        raise pytest.UsageError(f"storage comes from {IMPORTED}, this session measures {expected}")
    asked = config.option.backends
    found = find_backends(asked) if asked else []
    for name in UNAVAILABLE if not asked else [name for name in asked.split(",") if name not in dict(found)]:
        write_journal(config, {"backend": name, "reason": UNAVAILABLE.get(name, NO_BACKEND)})
    for name, file in found:
        if expected != IMPORTED and not (file.is_relative_to(expected) or file.is_relative_to(IMPORTED)):
            raise pytest.UsageError(f"{name} comes from {file}, this session measures {expected}")
    if config.option.images and not has_image_files():
        pytest.exit("an older storage, which knows no image files", NO_CELLS)
    if config.option.backends:
        config.option.backends = ",".join(name for name, _ in found) or pytest.exit("no backend", NO_CELLS)


def has_image_files() -> bool:
    """Whether this `storage` knows image files; an older one can have no cells of them, so those are new."""
    return hasattr(storage, "Encoded") and importlib.util.find_spec("storage.decoding") is not None


def find_backends(names: str) -> list[tuple[str, Path]]:
    """Find those of the named backends that this side has, and the files of their modules."""
    add_modules(names.split(","))
    modules = {name: sys.modules[BACKENDS[name].__name__] for name in names.split(",") if name in BACKENDS}
    return [(name, Path(str(module.__file__)).resolve()) for name, module in modules.items()]


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None, None, None]:
    """Give a wrong -k expression its own exit code; leave out what the gate doesn't need.

    That is cells without a backend, because the other side shows drift, and those of several threads, which gain
    nothing on one processor.
    """
    try:
        yield
    except pytest.UsageError as error:
        pytest.exit(str(error), WRONG_EXPRESSION)
    items[:] = [item for item in items if is_needed(item)]


def is_needed(item: pytest.Item) -> bool:
    """Whether a cell has a backend, and at most one thread."""
    threads = item.callspec.params.get("threads", 1) if hasattr(item, "callspec") else 1
    return {"reference", "floor"}.isdisjoint(getattr(item, "fixturenames", ())) and threads == 1


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Wait until both sides are ready for a cell; then both measure its rounds on one processor, a few at a time."""
    descriptor, processor = json.loads(os.environ[TURNS])
    turns = Turns(descriptor)
    turns.wait(CELL)
    choose_processors(item, processor)
    item.stash[PAUSE] = turns.pause
    return (yield)


class Turns:
    """The turns of this side; the other side measures while it waits."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._start = descriptor, 0.0

    def wait(self, ready: bytes) -> None:
        """Say what this side is ready for, and wait for its turn."""
        os.write(self._descriptor, ready)
        os.read(self._descriptor, 1)
        self._start = time.perf_counter()

    def pause(self) -> None:
        """Wait for the next turn if this one is over."""
        if time.perf_counter() - self._start >= TURN:
            self.wait(ROUND)


def choose_processors(item: pytest.Item, processor: int) -> None:
    """Keep a cell on one processor, since others may be faster; one that has worker processes may use all."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, PROCESSORS if "workers" in getattr(item, "fixturenames", ()) else {processor})


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Note in the journal that a cell starts, in case it kills the process."""
    write_journal(item.config, {"started": item.nodeid})


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note in the journal why a cell failed or was skipped: there is no run if no cell was measured."""
    report = yield
    if call.excinfo is not None:
        write_journal(item.config, {"absent": item.nodeid, "reason": call.excinfo.exconly().partition("\n")[0]})
    return report


def write_journal(config: pytest.Config, line: dict[str, str]) -> None:
    """Append a line of JSON to the journal."""
    with config.getoption("journal").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def pytest_benchmark_generate_machine_info() -> dict[str, Any]:
    """Describe the machine without its processor: asking for that takes longer than many a session."""
    return {"machine": platform.machine(), "system": platform.system(), "release": platform.release()}


def pytest_benchmark_generate_commit_info() -> dict[str, Any]:
    """Leave the commit out: the gate knows it, this folder doesn't."""
    return {"id": "unversioned", "dirty": False}
