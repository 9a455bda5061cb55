"""Runs a function on the workers of a Dask cluster: on processes of this machine, or on those of any scheduler.

Dask's distributed does the work, and reruns what a dead worker was doing. A scheduler and its workers are trusted, as
they unpickle what they are sent. Those of this machine are in a session of their own, so that Ctrl-C doesn't reach
them, behind a certificate made for this run if `cryptography` is installed; they end with the process that wants them.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, NamedTuple, TypeVar, cast

from ..errors import BackendUnavailableError, InvalidInputError, StorageError
from ..lazy import LazyProperty
from ..registry import PACKAGE
from ..remote.cache import cache as choose_cache
from ..urls import Url

MIN_AHEAD, AHEAD = 64, 4  # tasks that are submitted before one is done: at all, and for each thread of a worker
PAUSE = 0.005  # seconds after which it is looked for results again
LOOK = 1  # seconds after which it is looked for workers again, if there are no results
TIMEOUT = 30  # seconds in which a scheduler must answer, and have a worker
PER_PROCESSOR = 4  # processes of this machine, at most
SAME = f"start the scheduler and its workers with the package {PACKAGE} and the libraries that are here"
# modules that workers need; a library among them may be missing
PRELOADED = "distributed", f"{__package__}.conversion", f"{__package__}.checking", "PIL.Image", "simplejpeg", "cv2"
LIBRARIES = r"(dask|distributed|tornado|zict|msgpack|cloudpickle)(\.|$)"
Task = TypeVar("Task")
Result = TypeVar("Result")
Results = Generator[tuple[int, Result]]


class Done(NamedTuple):
    """What a task has returned, so that it isn't taken for the error of one that failed."""

    value: Any


class Cluster:
    """The workers of a scheduler, to which the first call connects; this process may not have started them."""

    def __init__(self, connect: Callable[[], Any], cache: Path | None = None, *, is_foreign: bool = False) -> None:
        self._connect, self._cache, self._is_foreign = connect, cache, is_foreign

    @LazyProperty
    def _client(self) -> Any:  # noqa: ANN401 - of distributed
        return self._connect()

    def run(self, function: Callable[[Task], Result], tasks: Iterable[tuple[int, Task]]) -> "Results[Result]":
        """Call a function with each task; yield its number and the result as they come.

        If tasks fail, the error is that of the lowest number, as if they were done in order. Who may not come to the
        end must close it. That waits for Dask's thread, and the garbage collector may run under a lock that it needs.
        """
        from distributed import as_completed  # noqa: PLC0415 - optional

        tasks, waiting, failures = iter(tasks), dict[Any, int](), dict[int, Exception]()
        completed = as_completed(loop=self._client.loop, with_results=True, raise_errors=False)
        call = partial(_call, self._cache, function)

        def submit(count: int) -> None:
            for number, task in islice(tasks, count):
                future = self._client.submit(call, task, pure=False, priority=-number)
                waiting[future] = number
                completed.add(future)

        try:
            self._have_imported(call)
            submit(max(MIN_AHEAD, AHEAD * sum(self._client.nthreads().values())))
            for future, result in self._take(completed):
                number = waiting.pop(future)
                if isinstance(result, Done):  # its worker may have died since, with which the status changes
                    yield number, result.value
                else:
                    failures[number] = self._locate(_explain(future.status, result))
                if not failures:
                    submit(1)
                elif all(number > min(failures) for number in waiting.values()):
                    break
        except OSError as error:
            raise _explain("lost", None) from error
        finally:
            with suppress(Exception):  # there may be no scheduler any more
                self._client.cancel(list(waiting), force=True)
        if failures:
            raise failures[min(failures)]

    def _take(self, completed: Any) -> Iterator[tuple[Any, Any]]:  # noqa: ANN401 - of distributed
        """Yield futures and their results as they come, as long as the scheduler is there, and has workers.

        A task that is submitted when it isn't any more is neither done nor lost, nor is one that no worker takes.
        """
        looked = time.monotonic()
        missing: float | None = None  # since when it has none
        while not completed.is_empty():
            if completed.has_ready():
                yield next(completed)
                missing = None
            elif self._client.status != "running":
                raise OSError(self._client.status)
            elif (now := time.monotonic()) - looked < LOOK:
                time.sleep(PAUSE)
            else:
                looked, missing = now, None if self._client.nthreads() else missing or now
                if missing and now - missing >= TIMEOUT:
                    problem = f"the scheduler has had no workers for {TIMEOUT} s"
                    raise StorageError(problem, hint=f"see why they ended; {SAME}")

    def _have_imported(self, call: Callable[[Any], Done]) -> None:
        """Have each worker import what a call needs: it would die of a task that it can't unpickle, without a word."""
        answers = self._client.run(callable, call, on_error="return") if self._is_foreign else {}
        for worker, answer in answers.items():
            if isinstance(answer, Exception) and not isinstance(answer, OSError):  # it isn't lost meanwhile
                problem = f"the worker {worker} can't import what it needs ({answer})"
                raise StorageError(problem, hint=SAME)

    def _locate(self, error: Exception) -> Exception:
        """Say that it was a worker that failed to use a bucket, as its environment may be another one."""
        if self._is_foreign and isinstance(error, StorageError) and isinstance(error.store, Url):
            return error.replace(problem=f"on a worker, {error.problem}")
        return error

    def call(self, function: Callable[[], None]) -> None:
        """Call a function in each worker that answers."""
        with suppress(Exception):
            self._client.run(function, on_error="ignore")


def _call(cache: Path | None, function: Callable[[Task], Result], task: Task) -> Done:
    """Call a function in a worker, which reads buckets through this cache."""
    if cache is not None:
        choose_cache(cache)
    return Done(function(task))


def put_in_order(results: "Results[Result]") -> Generator[Result]:
    """Yield results in the order of their tasks, which are numbered from 0; then, or when it is closed, close them."""
    done, waiting = 0, dict[int, Result]()
    with closing(results):
        for number, result in results:
            waiting[number] = result
            while done in waiting:
                yield waiting.pop(done)
                done += 1


def _explain(status: str, result: Any) -> Exception:  # noqa: ANN401 - whatever a task raised
    """Make the error of a task that failed."""
    from distributed import KilledWorker  # noqa: PLC0415 - optional

    error = result[1] if status == "error" else None
    if isinstance(error, StorageError):
        return error
    if isinstance(error, KilledWorker):
        problem = f"{error.allowed_failures + 1} workers died, one after the other, of the same task"
        return StorageError(problem, hint="see whether they have enough memory")
    if error is None:
        return StorageError("the scheduler lost a task, or the connection to it", hint="see whether it is running")
    return StorageError(f"a worker failed ({type(error).__name__}: {error})", hint=SAME)


@contextmanager
def connect(address: str, cache: Path | None = None) -> Iterator[Cluster]:
    """Use the workers of the scheduler at an address, such as tcp://10.0.0.1:8786, with this cache."""
    with _silencing(), _make_client(address) as client:
        yield Cluster(lambda: client, cache, is_foreign=True)


@contextmanager
def start_workers(count: int, cache: Path | None = None) -> Iterator[Cluster]:
    """Use processes of this machine, which end with the block; they start while the caller does something else."""
    with (
        _silencing(),
        TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        _start_process(folder) as (requests, answers),
        ExitStack() as stack,
    ):
        _, security_type = _import()  # while the process does the same
        certificate = _make_certificate(security_type)
        most = PER_PROCESSOR * len(os.sched_getaffinity(0))
        given = {"count": min(count, most), "security": certificate}
        with suppress(BrokenPipeError):
            requests.write(json.dumps(given).encode() + b"\n")

        def connect_now() -> Any:  # noqa: ANN401 - of distributed
            address = answers.readline().decode().strip()
            if not address:
                raise StorageError("the worker processes could not be started", hint="free memory, or start fewer")
            security = security_type(**certificate) if certificate else None
            return stack.enter_context(_make_client(address, security))

        yield Cluster(connect_now, cache)


@contextmanager
def _make_client(address: str, security: Any = None) -> Iterator[Any]:  # noqa: ANN401 - of distributed
    """Connect to a scheduler that has workers."""
    client_type, _ = _import()
    client = client_type.__new__(client_type)  # kept, to be closed: one collected while another starts waits for itself
    try:
        client.__init__(address, set_as_default=False, timeout=TIMEOUT, security=security)
    except BaseException as error:  # what distributed makes of an address that it can't use, or Ctrl-C
        with suppress(Exception):
            client.close()
        if not isinstance(error, Exception):
            raise
        problem = f"no Dask scheduler answers at {address} ({str(error) or type(error).__name__})"
        raise InvalidInputError(problem, hint="start one with `dask scheduler`, or correct the address") from error
    with closing(client):
        try:
            client.wait_for_workers(1, timeout=TIMEOUT)
        except TimeoutError:
            problem = f"the scheduler at {address} has no workers"
            raise InvalidInputError(problem, hint=f"start some with `dask worker {address}`") from None
        yield client


@contextmanager
def _start_process(folder: str) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Start the process that holds the workers, which put their files into a folder; kill all of them at the end."""
    path = os.pathsep.join(map(os.path.abspath, sys.path))
    process = subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-P", Path(__file__).with_name("local_workers.py"), folder, *PRELOADED],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        bufsize=0,
        env={**os.environ, "PYTHONPATH": path, "TMPDIR": folder, "OMP_NUM_THREADS": "1"},  # no threads at the fork
    )
    with process:
        try:
            yield cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _make_certificate(security_type: Any) -> dict[str, Any]:  # noqa: ANN401 - of distributed
    """Make a certificate that only this process and its workers have; empty if `cryptography` isn't installed."""
    try:
        made = security_type.temporary()
    except ImportError:
        return {}
    names = [f"tls_{role}_{what}" for role in ("client", "scheduler", "worker") for what in ("key", "cert")]
    return {"require_encryption": True} | {name: getattr(made, name) for name in ("tls_ca_file", *names)}


def _import() -> tuple[Any, Any]:
    """Import what is needed of distributed, or say how to install it."""
    try:
        with _silencing():
            from distributed import Client, Security  # noqa: PLC0415 - optional, and slow
    except ModuleNotFoundError as error:
        install = '-e ".[cluster]"' if PACKAGE == "storage" else '"image-storage[cluster]"'
        raise BackendUnavailableError(f"{error.name} is not installed: python -m pip install {install}") from error
    return Client, Security


@contextmanager
def _silencing() -> Iterator[None]:
    """Keep what Dask logs and warns of from the terminal; what matters comes as an error."""
    before = logging.root.manager.disable
    logging.disable()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=LIBRARIES)
            yield
    finally:
        logging.disable(before)
