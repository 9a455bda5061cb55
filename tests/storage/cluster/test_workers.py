"""Real workers of Dask's distributed: what they do, what their errors are, and how they end."""

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

import storage
from storage import CorruptStoreError, StorageError
from storage.cluster import local_workers, workers
from storage.cluster.workers import Cluster, connect, start_workers
from storage.dataset import planning
from storage.errors import BackendUnavailableError, InvalidInputError
from storage.remote.cache import Cache
from storage.sources.opening import open_source
from tests.support.backends import need_backend
from tests.support.cluster_tasks import damage, fail, finish_last, kill_once, refuse
from tests.support.commands import Command
from tests.support.image_sets import make_set
from tests.support.suite import ROOT

distributed = pytest.importorskip("distributed", reason="distributed is not installed")
pytest_plugins = ["tests.support.command_fixtures"]
pytestmark = need_backend("npy")

IMAGES, LABELS = make_set(40, 5, 7)


@pytest.fixture(scope="module")
def pair() -> Iterator[Cluster]:
    """Start two workers for all tests of this module; without a certificate, so that --dask finds them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "_make_certificate", lambda _: {})
        with start_workers(2) as started:
            patch.undo()
            yield started


@pytest.fixture
def use(pair: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Have --workers use these."""

    @contextmanager
    def start(*_: object) -> Iterator[Cluster]:
        yield pair

    monkeypatch.setattr(workers, "start_workers", start)
    monkeypatch.setattr(planning, "MIN_PART", 2 * IMAGES[0].nbytes)
    return pair


@pytest.fixture
def source(tmp_path: Path) -> Path:
    np.save(tmp_path / "images.npy", IMAGES)
    np.save(tmp_path / "labels.npy", LABELS)
    return tmp_path / "images.npy"


def find_workers() -> list[int]:
    """Find the processes of workers: in the session of a child of this one, and forked by a child of that."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            process = int(folder.name)
            leader = os.getsid(process)
            is_ours = find_parent(leader) == os.getpid() and find_parent(find_parent(process)) == leader
            if is_ours and is_running(process):
                found.append(process)
    return found


def wait_for_workers() -> list[int]:
    for _ in range(400):
        if found := find_workers():
            return found
        time.sleep(0.05)
    pytest.fail("no worker starts again")


def find_session(leader: int) -> list[int]:
    """Find the processes of a session that are running."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(ProcessLookupError):
            if os.getsid(int(folder.name)) == leader and is_running(int(folder.name)):
                found.append(int(folder.name))
    return found


def find_parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.usefixtures("use")
def test_the_command_shares_the_work_and_prints_what_one_process_prints(
    run: Command, source: Path, tmp_path: Path
) -> None:
    assert run("convert", source, tmp_path / "one", "--backend", "npy")[0] == 0
    shared = run("convert", source, tmp_path / "two", "--backend", "npy", "--workers", 2)
    assert shared == (0, f"40 images saved in {tmp_path / 'two'} as npy\n", "")
    with storage.open(tmp_path / "one") as one, storage.open(tmp_path / "two") as two:
        assert two.checksum == one.checksum


def test_an_address_names_the_workers_of_a_scheduler(use: Cluster, run: Command, source: Path, tmp_path: Path) -> None:
    address = use._client.scheduler.address  # noqa: SLF001 - what only tests want
    code, _, complaint = run("convert", source, tmp_path / "set", "--backend", "npy", "--dask", address)
    assert (code, complaint) == (0, "")
    whole = f"{tmp_path / 'set'}: whole, 40 images in npy\n"
    assert run("check", tmp_path / "set", "--dask", address) == (0, whole, "")


def test_an_error_of_a_worker_keeps_its_fields_and_is_that_of_the_first_task(pair: Cluster) -> None:
    with pytest.raises(CorruptStoreError, match=r"set: record 1 \(a\.jpg\): it is cut short"):
        list(pair.run(damage, [(1, 1), (0, 0), (3, 3), (2, 2)]))


def test_tasks_before_one_that_failed_are_waited_for(pair: Cluster) -> None:
    results = pair.run(finish_last, [(0, 0), (1, 1), (2, 2)])
    assert next(results)[0] == 0
    with pytest.raises(CorruptStoreError, match="set: record 1: it is cut short"):
        list(results)


def test_a_result_counts_even_if_its_worker_dies_as_soon_as_it_came(
    pair: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    distributed = pytest.importorskip("distributed")

    def take_and_lose(completed: Any) -> Any:  # noqa: ANN401 - a future and its result
        future, result = take(completed)
        future._state.lose()  # noqa: SLF001 - what the client does when the worker is gone
        return future, result

    take = distributed.as_completed.__next__
    monkeypatch.setattr(distributed.as_completed, "__next__", take_and_lose)
    assert sorted(pair.run(abs, [(0, -1), (1, -2)])) == [(0, 1), (1, 2)]


def test_what_a_library_raises_in_a_worker_is_explained(pair: Cluster) -> None:
    with pytest.raises(StorageError, match=r"a worker failed \(ValueError: no reason\): start the scheduler and"):
        list(pair.run(fail, [(0, 0)]))


def test_tasks_that_are_lost_or_that_kill_their_workers_are_explained() -> None:
    make_error: Any = pytest.importorskip("distributed").KilledWorker
    killed = make_error("task", None, 3)
    assert "4 workers died, one after the other, of the same task" in str(workers._explain("error", (0, killed, 0)))  # noqa: SLF001
    assert "the scheduler lost a task" in str(workers._explain("cancelled", None))  # noqa: SLF001


def test_a_scheduler_that_goes_away_is_an_error_of_the_connection(
    pair: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pair._client, "nthreads", Mock(side_effect=OSError("closed")))  # noqa: SLF001 - what fails first
    with pytest.raises(StorageError, match="the scheduler lost a task, or the connection to it"):
        list(pair.run(fail, [(0, 0)]))


@pytest.fixture
def foreign(pair: Cluster) -> Iterator[Cluster]:
    """Connect to the workers as to those of another machine."""
    with connect(pair._client.scheduler.address) as cluster:  # noqa: SLF001 - what only tests want
        yield cluster


@pytest.mark.parametrize("lacks", ["the module", "the function"])
def test_a_worker_that_lacks_what_a_task_needs_is_named_and_not_killed(
    lacks: str, foreign: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("newer") if lacks == "the module" else sys.modules[fail.__module__]

    def work(_: int) -> None:
        pass

    work.__module__, work.__qualname__ = module.__name__, "work"
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(module, "work", work, raising=False)
    before = sorted(find_workers())
    problem = r"the worker tcp://127\.0\.0\.1:\d+ can't import what it needs \((ModuleNotFound|Attribute)Error.*\): st"
    with pytest.raises(StorageError, match=problem):
        list(foreign.run(work, [(0, 0)]))
    assert sorted(find_workers()) == before


def test_a_worker_that_is_lost_before_it_answers_is_left_to_the_scheduler(
    foreign: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {"tcp://127.0.0.1:9": OSError("closed"), "tcp://127.0.0.1:10": True}
    monkeypatch.setattr(foreign._client, "run", Mock(return_value=answers))  # noqa: SLF001 - as it is for a lost one
    assert list(foreign.run(abs, [(0, -1)])) == [(0, 1)]


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_scheduler_may_be_without_workers_for_a_while(monkeypatch: pytest.MonkeyPatch, *, comes_back: bool) -> None:
    monkeypatch.setattr(workers, "LOOK", 0.01)
    with start_workers(1) as started:
        client = started._client  # noqa: SLF001 - what only tests want
        results, look = started.run(abs, ((number, -number) for number in range(300))), client.nthreads
        done = [next(results)]
        (worker,) = client.run(os.getpid).values()
        forker = find_parent(worker)

        def look_and_continue() -> Any:  # noqa: ANN401 - what `nthreads` returns
            found = look()
            if comes_back and not found:
                os.kill(forker, signal.SIGCONT)
            return found

        monkeypatch.setattr(client, "nthreads", look_and_continue)
        monkeypatch.setattr(workers, "TIMEOUT", 30 if comes_back else 0.1)
        os.kill(forker, signal.SIGSTOP)
        os.kill(worker, signal.SIGKILL)
        if comes_back:
            done += results
            assert sorted(done) == [(number, number) for number in range(300)]
        else:
            with pytest.raises(StorageError, match=r"the scheduler has had no workers for 0\.1 s: see why they "):
                done += results


def test_an_error_of_a_bucket_is_that_of_another_environment(pair: Cluster, foreign: Cluster) -> None:
    with pytest.raises(StorageError, match=r"^s3://bucket/set: the server refused access: see whether it"):
        list(pair.run(refuse, [(0, "s3://bucket/set")]))
    with pytest.raises(StorageError, match=r"^s3://bucket/set: on a worker, the server refused access: see whether it"):
        list(foreign.run(refuse, [(0, "s3://bucket/set")]))
    with pytest.raises(CorruptStoreError, match=r"^set: record 1"):
        list(foreign.run(damage, [(1, 1)]))


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("", "it is empty"),
        (" ", "it is empty"),
        ("local", "--workers N starts N processes of this machine"),
        ("tcp://user:SECRET@127.0.0.1:9", "the address has a user, a query or a fragment"),
        ("tcp://127.0.0.1:9?token=SECRET", "the address has a user, a query or a fragment"),
    ],
)
def test_what_is_no_address_is_refused_without_being_repeated(
    address: str, problem: str, run: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run("check", "set", "--dask", address)
    complaint = capsys.readouterr().err
    assert (ended.value.code, problem in complaint, "SECRET" in complaint) == (2, True, False)


@pytest.mark.parametrize(("count", "started"), [(5, 5), (500, 8)])
def test_at_most_four_workers_are_started_for_a_processor(
    count: int, started: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = BytesIO()

    @contextmanager
    def start(_: str) -> Iterator[tuple[BytesIO, BytesIO]]:
        yield requests, BytesIO()

    monkeypatch.setattr(workers, "_start_process", start)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3})
    with start_workers(count):
        assert json.loads(requests.getvalue())["count"] == started


def test_a_scheduler_without_workers_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    client = pytest.importorskip("distributed").Client
    wait, problem = client.wait_for_workers, r"has no workers: start some with `dask worker"
    monkeypatch.setattr(client, "wait_for_workers", lambda self, count, timeout: wait(self, count, timeout / 300))
    with start_workers(0) as started, pytest.raises(InvalidInputError, match=problem):
        list(started.run(fail, [(0, 0)]))


def test_workers_use_the_cache_that_was_chosen(tmp_path: Path) -> None:
    try:
        assert workers._call(tmp_path, str, 7).value == "7"  # noqa: SLF001 - what a worker calls
        assert workers._call(None, str, 8).value == "8", "the cache stays"  # noqa: SLF001 - likewise
        assert Cache.chosen.given == tmp_path
    finally:
        storage.cache()


def test_workers_of_this_machine_serve_nothing_but_tasks() -> None:
    assert local_workers.CONFIG["distributed.scheduler.http.routes"] == []
    assert local_workers.CONFIG["distributed.worker.http.routes"] == []


def test_another_worker_does_what_a_killed_one_was_doing(pair: Cluster, tmp_path: Path) -> None:
    ((number, _),) = pair.run(kill_once, [(5, tmp_path / "killed")])
    assert number == 5


def test_no_scheduler_at_the_address_is_wrong_usage(
    run: Command, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "TIMEOUT", 0.2)
    command = "convert", source, tmp_path / "set", "--backend", "npy", "--dask"
    for address in ("tcp://127.0.0.1:9", "nothing://", "tcp://127.0.0.1:port", "tls://127.0.0.1:9"):
        code, _, complaint = run(*command, address)
        assert (code, f"no Dask scheduler answers at {address}" in complaint) == (2, True), complaint


@pytest.mark.parametrize("address", ["nothing://", "tcp://127.0.0.1:port", "tls://127.0.0.1:9", "tcp://127.0.0.1:9"])
def test_a_client_that_failed_is_closed_at_once(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    start = distributed.Client.start

    def remember(client: object, **options: object) -> None:
        started.append(client)
        start(client, **options)

    monkeypatch.setattr(workers, "TIMEOUT", 0.2)
    monkeypatch.setattr(distributed.Client, "start", remember)
    with pytest.raises(InvalidInputError), connect(address):
        pass
    assert [client.status for client in started] == ["closed"], "collected while another starts, it waits for itself"


def test_ctrl_c_while_connecting_closes_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []

    def interrupt(client: object, **_: object) -> None:
        started.append(client)
        raise KeyboardInterrupt

    monkeypatch.setattr(distributed.Client, "start", interrupt)
    monkeypatch.setattr(distributed.Client, "close", lambda client: setattr(client, "status", "closed"))
    with pytest.raises(KeyboardInterrupt), connect("tcp://127.0.0.1:9"):
        pass
    assert [client.status for client in started] == ["closed"]


def test_without_distributed_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    starts: list[Any] = [lambda: start_workers(2), lambda: connect("tcp://127.0.0.1:9")]
    for start in starts:
        with pytest.raises(BackendUnavailableError, match=r"pip install .*\[cluster\]"), start():
            pass


def test_workers_that_do_not_start_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/true")
    with start_workers(1) as started, pytest.raises(StorageError, match="the worker processes could not be started"):
        list(started.run(fail, [(0, 0)]))


def test_the_certificate_is_made_for_this_run(monkeypatch: pytest.MonkeyPatch) -> None:
    class Security:
        """Stands for distributed's with `cryptography`."""

        def __getattr__(self, name: str) -> str:
            return f"of {name}"

        temporary = classmethod(lambda cls: cls())

    made = workers._make_certificate(Security)  # noqa: SLF001
    assert made["require_encryption"] is True
    assert made["tls_worker_key"] == "of tls_worker_key"

    def refuse() -> None:
        raise ImportError

    monkeypatch.setattr(Security, "temporary", refuse)
    assert workers._make_certificate(Security) == {}  # noqa: SLF001


@pytest.mark.parametrize("victim", ["scheduler", "forker"])
def test_a_conversion_whose_workers_can_not_be_replaced_ends_with_an_error(victim: str) -> None:
    with start_workers(1) as started:
        results = started.run(abs, ((number, -number) for number in range(100_000)))
        next(results)
        (worker,) = started._client.run(os.getpid).values()  # noqa: SLF001 - what only tests want
        forker = find_parent(worker)
        os.kill(find_parent(forker) if victim == "scheduler" else forker, signal.SIGKILL)
        with pytest.raises(StorageError, match="the scheduler lost a task, or the connection to it"):
            list(results)


SCRIPT = """
import os, sys
from storage.cluster.workers import start_workers
if __name__ == "__main__":
    with start_workers(1) as workers:
        print(*workers._client.run(os.getpid).values(), flush=True)
        sys.stdin.read()
"""
STARTING = SCRIPT.replace("*workers._client.run(os.getpid).values()", "os.getpid()")


def wait_for(condition: Callable[[], bool]) -> bool:
    """Wait until a condition is true, for ten seconds at most."""
    for _ in range(200):
        if condition():
            return True
        time.sleep(0.05)
    return False


def is_running(process: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_the_process_that_started_them(stop: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        assert is_running(worker)
        process.send_signal(stop)
    assert wait_for(lambda: not is_running(worker)), f"worker {worker} is still there"


@pytest.mark.parametrize("script", [SCRIPT, pytest.param(STARTING, marks=pytest.mark.slow)], ids=["used", "starting"])
def test_nothing_is_left_of_workers_whose_caller_is_killed(script: str) -> None:
    with tempfile.TemporaryDirectory() as folder:  # whose path is short, as those of sockets must be
        with subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": folder},
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            process.kill()
        (leader,) = map(int, children)
        assert wait_for(lambda: not find_session(leader)), f"processes {find_session(leader)} are still there"
        assert not list(Path(folder).iterdir()), "workers left files"


@pytest.mark.parametrize("delay", [0, *(pytest.param(delay, marks=pytest.mark.slow) for delay in (0.5, 1, 1.5, 2))])
def test_workers_that_are_starting_end_if_there_is_nothing_to_convert(
    delay: float, run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, popen = list[int](), subprocess.Popen

    def start(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - as `Popen`
        process = popen(*arguments, **options)
        started.append(process.pid)
        return process

    def open_late(*arguments: Any) -> Any:  # noqa: ANN401 - as `open_source`
        time.sleep(delay)
        return open_source(*arguments)

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr("storage.__main__.open_source", open_late)
    with tempfile.TemporaryDirectory() as folder:  # whose path is short, as those of sockets must be
        monkeypatch.setattr(tempfile, "tempdir", folder)
        code, _, complaint = run("convert", tmp_path / "none", tmp_path / "set", "--backend", "npy", "--workers", 1)
        left = list(Path(folder).iterdir())
    assert (code, "it doesn't exist" in complaint) == (2, True), complaint
    (leader,) = started
    assert wait_for(lambda: not find_session(leader)), f"processes {find_session(leader)} are still there"
    assert not left, "workers left files"
    assert not (tmp_path / "set").exists()


@pytest.mark.usefixtures("pair")
def test_nothing_is_logged_while_there_are_workers() -> None:
    assert logging.root.manager.disable >= logging.CRITICAL, "while there are workers, their library logs nothing"
    with pytest.raises(InvalidInputError), connect("nothing://"):
        pass
    assert wait_for_workers()


@pytest.mark.slow
@pytest.mark.usefixtures("use")
def test_a_conversion_whose_workers_are_killed_20_times_ends_in_a_whole_dataset(
    run: Command, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "MIN_PART", IMAGES[0].nbytes)
    monkeypatch.setattr(workers, "MIN_AHEAD", 1)
    monkeypatch.setattr(workers, "AHEAD", 1)
    killed, take = list[int](), planning.PlannedWriter.insert

    def insert(writer: planning.PlannedWriter, number: int, written: Any) -> None:  # noqa: ANN401 - a Written
        take(writer, number, written)
        if len(killed) < 20:
            processes = wait_for_workers()
            killed.append(processes[number % len(processes)])
            os.kill(killed[-1], signal.SIGKILL)

    monkeypatch.setattr(planning.PlannedWriter, "insert", insert)
    code, _, complaint = run("convert", source, tmp_path / "set", "--backend", "npy", "--workers", 2)
    assert code == 0, complaint
    assert len(killed) == 20
    assert storage.check(tmp_path / "set").is_whole
    np.testing.assert_array_equal(storage.load(tmp_path / "set")[0], IMAGES)
    names = {path.name[:19] for path in (tmp_path / "set").glob("part-*")}
    assert len(names) == len(list((tmp_path / "set").glob("part-*.json"))), "nothing is left of killed workers"
