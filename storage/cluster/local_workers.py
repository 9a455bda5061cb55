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
from contextlib import suppress
from importlib import import_module
from typing import Any

ALLOWED_FAILURES = 25  # workers that may die of one task: it may be innocent
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
    address, told = os.pipe()
    if os.fork() == 0:
        _fork_workers(given["count"], address, options | {"local_directory": folder})
    asyncio.run(_schedule(options, [told, answer]))


async def _schedule(options: dict[str, Any], told: list[int]) -> None:  # pragma: no cover - likewise
    """Be the scheduler until standard input ends, once its address is told."""
    from distributed import Scheduler  # noqa: PLC0415 - likewise

    async with Scheduler(dashboard=False, allowed_failures=ALLOWED_FAILURES, **options) as scheduler:
        for descriptor in told:
            os.write(descriptor, f"{scheduler.address}\n".encode())
        await asyncio.to_thread(sys.stdin.read)


def _fork_workers(count: int, address: int, options: dict[str, Any]) -> None:  # pragma: no cover - likewise
    """Fork workers, and another one for each that ends, as long as the scheduler is there."""
    scheduler, workers = os.getppid(), set[int]()
    place = os.fdopen(address).readline().strip()
    while os.getppid() == scheduler:
        while len(workers) < count:
            if (worker := os.fork()) == 0:
                asyncio.run(_work(place, options))
                os._exit(0)
            workers.add(worker)
        if not workers:
            signal.pause()
        workers.discard(os.wait()[0])
    os._exit(0)


async def _work(place: str, options: dict[str, Any]) -> None:  # pragma: no cover - likewise
    """Be a worker of the scheduler at a place."""
    from distributed import Worker  # noqa: PLC0415 - likewise

    async with Worker(place, nthreads=1, memory_limit=0, dashboard=False, **options) as worker:
        await worker.finished()


if __name__ == "__main__":  # pragma: no cover - runs in a child only
    main()
