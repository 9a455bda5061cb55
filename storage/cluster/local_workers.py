"""Workers on this machine, in a process that kills itself and them when its standard input ends."""

import json
import logging
import os
import shutil
import signal
import sys
from multiprocessing import forkserver

ALLOWED_FAILURES = 25  # workers that may die of one task: it may be innocent
CONFIG = {
    "distributed.deploy.lost-worker-timeout": "1 day",  # a worker that was killed starts again, however slowly
    "distributed.nanny.pre-spawn-environ": {},  # which has malloc return memory that the next image needs
    "distributed.scheduler.http.routes": [],  # nothing is served but tasks
    "distributed.worker.http.routes": [],
    "distributed.worker.multiprocessing-method": "forkserver",  # which imports once for all workers
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
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    forkserver.set_forkserver_preload(modules)
    forkserver.ensure_running()  # imports them while this process imports Dask
    import dask  # noqa: PLC0415 - workers import this module, too
    from distributed import LocalCluster, Security  # noqa: PLC0415 - likewise

    given = json.loads(sys.stdin.readline())
    with dask.config.set(CONFIG):
        cluster = LocalCluster(
            n_workers=given["count"],
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            memory_limit=0,
            local_directory=folder,
            security=Security(**given["security"]) if given["security"] else None,
            scheduler_kwargs={"allowed_failures": ALLOWED_FAILURES},
            silence_logs=logging.CRITICAL,
        )
        answer.write(f"{cluster.scheduler_address}\n")
        answer.flush()
        sys.stdin.read()


if __name__ == "__main__":  # pragma: no cover - runs in a child only
    main()
