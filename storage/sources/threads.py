"""Calls a function in threads, and holds only a few of its arguments and results at once."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def map_in_threads(
    function: Callable[[Argument], Result],
    arguments: Iterable[Argument],
    ahead: int | None = None,
    threads: int | None = None,
) -> Generator[Result]:
    """Yield the results in order; at most `ahead` calls are made or waiting, by default two for each thread.

    `threads` is how many there are, by default one for each processor; 0: the caller's alone. Who may not come to the
    end must close it. That waits for the threads, and the garbage collector may run under a lock that they need to end.
    """
    if threads == 0:
        yield from map(function, arguments)
        return
    threads = threads or len(os.sched_getaffinity(0))
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for argument in arguments:
            waiting.append(pool.submit(function, argument))
            if len(waiting) >= (ahead or 2 * threads):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
