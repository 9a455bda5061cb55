"""A pytest plugin that slows cells down: ``-p benchmarks.slowdown``. `reports calibrate` checks with it what is found.

A variable of the environment says which cells, so that further processes of a session see it, too.
"""

import functools
import itertools
import json
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from benchmarks.cell import WRAP

SLOWDOWN = "IMAGE_STORAGE_SLOWDOWN"  # JSON: ids of cells, how many times as long they take, and what takes this time


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Slow this cell if it is one of those."""
    cells, factor, kind = json.loads(os.environ.get(SLOWDOWN, '[[], 1, "cpu"]'))
    if item.nodeid in cells:
        work = WORK[kind]()
        item.stash[WRAP] = lambda function: slow_down(function, factor, work)


def make_copying() -> Callable[[], object]:
    """Make a function that copies 64 KiB, elsewhere in memory each time."""
    blocks = np.zeros((2, 256, 1 << 16), np.uint8)
    places = itertools.cycle(range(blocks.shape[1]))

    def copy() -> None:
        place = next(places)
        blocks[1, place] = blocks[0, place]

    return copy


WORK: dict[str, Callable[[], Callable[[], object]]] = {  # what takes time, a few microseconds each
    "cpu": lambda: lambda: sum(range(200)),
    "memory": make_copying,
    "allocation": lambda: lambda: [bytearray(1 << 10) for _ in range(20)],
}


def slow_down(function: Callable[..., Any], factor: float, work: Callable[[], object]) -> Callable[..., Any]:
    """Return `function`, taking `factor` times as long: it works until the time is over."""

    @functools.wraps(function)
    def slow(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - whatever the function takes and returns
        start = time.perf_counter()
        result = function(*arguments, **options)
        end = start + factor * (time.perf_counter() - start)
        while time.perf_counter() < end:
            work()
        return result

    return slow
