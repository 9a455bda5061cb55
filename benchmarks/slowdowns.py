"""Slowdowns on purpose: what a cell shows when its backend takes so many times as long.

The gate's self-test puts them into one arm. They wrap the function that a cell measures, and nothing else: `storage`
does not know.
"""

import functools
import json
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from storage import Backend, Reader

VARIABLE = "GATE_SLOWDOWN"  # of the environment
BUFFER = bytes(16_384)


def spin(seconds: float) -> None:
    """Wait without giving the processor away."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def work(seconds: float) -> None:
    """Compute checksums for as long as that should take, without looking at the clock on the way."""
    for _ in range(round(seconds / time_checksum())):
        zlib.crc32(BUFFER)


@functools.cache
def time_checksum() -> float:
    """Return how many seconds one checksum takes, the best of many."""
    best = float("inf")
    for _ in range(200):
        start = time.perf_counter()
        zlib.crc32(BUFFER)
        best = min(best, time.perf_counter() - start)
    return best


KINDS: dict[str, Callable[[float], None]] = {"spin": spin, "sleep": time.sleep, "repeat": work}


@dataclass(frozen=True)
class Slowdown:
    """Which cells are slowed, how much and how.

    Attributes
    ----------
    cells : tuple of str
        Ids, such as ``benchmarks/test_many.py::test_read_many[lmdb-100]``.
    factor : float
        How many times as long a call takes, more than 1.
    kind : str
        ``spin``: a busy wait in proportion to each call. ``sleep``: the same, asleep; kernels sleep some 60
        microseconds too long. ``repeat``: work in proportion to the quickest call so far.
    """

    cells: tuple[str, ...]
    factor: float
    kind: str


def read_slowdown(text: str) -> Slowdown:
    """Read a slowdown from the JSON that the gate's self-test hands to a block."""
    fields = json.loads(text)
    return Slowdown(tuple(fields["cells"]), float(fields["factor"]), str(fields["kind"]))


def slow_function(function: Callable[..., Any], slowdown: Slowdown) -> Callable[..., Any]:
    """Return `function`, slower."""
    wait, share = KINDS[slowdown.kind], slowdown.factor - 1
    quickest = float("inf")

    @functools.wraps(function)
    def slow(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - whatever the function takes and returns
        nonlocal quickest
        start = time.perf_counter()
        result = function(*arguments, **options)
        seconds = time.perf_counter() - start
        quickest = min(quickest, seconds)
        wait(share * (quickest if slowdown.kind == "repeat" else seconds))
        return result

    return slow


class SlowBackend:
    """A backend of which one operation is slower.

    Parameters
    ----------
    backend : Backend
        Does all the work.
    operation : str
        The name of one of its functions, or of an operation that reads through a reader.
    slowdown : Slowdown
        How much, and how.
    """

    def __init__(self, backend: Backend, operation: str, slowdown: Slowdown) -> None:
        self._backend = backend
        self._operation = operation
        self._slowdown = slowdown

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the backend has
        """Return what the backend has under this name, slower if it is the operation."""
        function = getattr(self._backend, name)
        if name == self._operation:
            return slow_function(function, self._slowdown)
        if name == "open_reader" and not hasattr(self._backend, self._operation):
            return functools.partial(open_slow_reader, function, self._slowdown)
        return function


def open_slow_reader(open_reader: Callable[..., Reader], slowdown: Slowdown, *arguments: Any) -> Reader:  # noqa: ANN401
    """Open a reader that reads batches more slowly."""
    reader = open_reader(*arguments)
    cast("Any", reader).read = slow_function(reader.read, slowdown)
    return reader
