"""Workers on this machine, in a process that kills itself and them when its standard input ends.

It imports once what they need. Before it has threads, it forks a process that only forks workers: as many as are
wanted, and another one for each that ends. Then it is their scheduler.
"""

import asyncio
import json
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

ALLOWED_FAILURES = 25  # workers that may die of one task: it may be innocent
PAUSE = 0.1  # seconds after which workers that ended are replaced
CONFIG = {
    "distributed.scheduler.http.routes": [],  # nothing is served but tasks
    "distributed.worker.http.routes": [],
    "distributed.worker.profile.enabled": False,
}


def main() -> None:  # pragma: no cover - runs in a child only
    """Hold workers until standard input ends; arguments are their folder and the modules that they need."""
    folder, *modules = sys.argv[1:]
    try:
        _hold_workers(folder, modules)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.killpg(0, signal.SIGKILL)


def _hold_workers(folder: str, modules: list[str]) -> None:  # pragma: no cover - likewise
    """Start the workers that standard input describes; write the address of their scheduler to standard output."""
    answer = os.dup(sys.stdout.fileno())
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    for module in modules:
        with suppress(ImportError):  # a library may be missing
            import_module(module)
    import dask  # noqa: PLC0415 - the caller imports this module, too
    from distributed import Security  # noqa: PLC0415 - likewise

    logging.disable()
    dask.config.set(CONFIG)
    given = json.loads(sys.stdin.readline())
    options = {"host": "127.0.0.1", "security": Security(**given["security"]) if given["security"] else None}
    (address, told), (ended, alive) = os.pipe(), os.pipe()
    if (forker := os.fork()) == 0:
        with _ending():
            _close(answer, told, ended)
            _fork_workers(given["count"], address, alive, options | {"local_directory": folder})
    _close(address, alive)
    try:
        asyncio.run(_schedule(options, [told, answer], ended))
    finally:
        os.kill(forker, signal.SIGKILL)  # so that no new worker makes files


async def _schedule(options: dict[str, Any], told: list[int], ended: int) -> None:  # pragma: no cover - likewise
    """Tell the address of a scheduler; be it until standard input ends, or the process that forks the workers."""
    from distributed import Scheduler  # noqa: PLC0415 - likewise

    over = asyncio.Event()
    for descriptor in (sys.stdin.fileno(), ended):
        asyncio.get_running_loop().add_reader(descriptor, over.set)
    async with Scheduler(dashboard=False, allowed_failures=ALLOWED_FAILURES, **options) as scheduler:
        for descriptor in told:
            os.write(descriptor, f"{scheduler.address}\n".encode())
        await over.wait()


def _fork_workers(count: int, address: int, alive: int, options: dict[str, Any]) -> None:  # pragma: no cover - likewise
    """Fork workers, and another one for each that ends; kill all if the scheduler's process ends."""
    scheduler, workers = os.getppid(), set[int]()
    place = os.fdopen(address).readline().strip()
    while os.getppid() == scheduler:
        while len(workers) < count:
            if (worker := os.fork()) == 0:
                with _ending():
                    _close(alive)
                    asyncio.run(_work(place, options))
            workers.add(worker)
        time.sleep(PAUSE)
        while workers and (worker := os.waitpid(-1, os.WNOHANG)[0]):
            workers.discard(worker)
    os.killpg(0, signal.SIGKILL)


async def _work(place: str, options: dict[str, Any]) -> None:  # pragma: no cover - likewise
    """Be a worker of the scheduler at a place."""
    from distributed import Worker  # noqa: PLC0415 - likewise

    async with Worker(place, nthreads=1, memory_limit=0, dashboard=False, **options) as worker:
        await worker.finished()


@contextmanager
def _ending() -> Iterator[None]:  # pragma: no cover - likewise
    """End this process after the block, whatever happens, without anything that its parent's would do at its end."""
    try:
        yield
    finally:
        os._exit(0)


def _close(*descriptors: int) -> None:  # pragma: no cover - likewise
    for descriptor in descriptors:
        os.close(descriptor)


if __name__ == "__main__":  # pragma: no cover - runs in a child only
    main()
