"""A bucket: objects are listed, read, written and removed; the one module that uses obstore.

Credentials and endpoints come from the environment. No error repeats them: the library's message may, so ours has only
the object's URL, the server's status and its code. Requests that failed are repeated: by the library if it can, else
here. Each request for bytes is checked against the size of its object, as a proxy may answer with a page of its own.
"""

import hashlib
import importlib.machinery
import importlib.util
import mmap
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from datetime import datetime, timedelta
from functools import partial
from io import BufferedReader
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

from ..errors import (
    BackendUnavailableError,
    CorruptStoreError,
    StorageError,
    StoreLockedError,
    StoreNotFoundError,
    reading,
    writing,
)
from ..registry import PACKAGE
from ..urls import ANSWER_HINT, Url

try:
    from obstore import _obstore
except ModuleNotFoundError as missing:
    install = '-e ".[remote]"' if PACKAGE == "storage" else '"image-storage[remote]"'
    raise BackendUnavailableError(f"obstore is not installed: python -m pip install {install}") from missing

CHUNK = 8 << 20  # bytes that one request reads
MAX_SINGLE = 1 << 30  # bytes that one request writes: an upload in pieces that dies leaves them where no listing shows
PIECE = 64 << 20  # bytes of a larger upload that one request writes
MAX_PIECES, MAX_PIECES_AT_ONCE = 9_000, 4  # S3 has 10,000
BULK = 1000  # objects that one request removes
MAX_REQUESTS = 32  # at once, of one process
ATTEMPTS, PAUSE, MAX_ELAPSED = 5, 0.1, 60.0  # of what the library doesn't repeat; seconds, the first doubled each time
TIMEOUT, REQUEST_TIMEOUT = timedelta(seconds=30), timedelta(minutes=10)  # until a byte comes; of one request
LOOK_UP, LINGER = 1.0, 5.0  # seconds between looks at a wait that Ctrl-C may end; for what still runs after it
RETRIES = {"max_retries": 10, "retry_timeout": timedelta(seconds=MAX_ELAPSED)}
STORES = {"s3": ("S3Store", "AWS"), "gs": ("GCSStore", "GOOGLE"), "az": ("AzureStore", "AZURE")}
CLIENT = ("allow_http", "allow_invalid_certificates", "proxy_url", "proxy_excludes")  # options that the environment has
STATUS = re.compile(r"status code: (\d{3})\b")
CODE = re.compile(r"<Code>(\w{1,60})</Code>")
PAGES = {"text/html", "application/xhtml+xml"}
PANIC = "PanicException"  # of the library, and no Exception: where it takes something for impossible
CUT, OTHER = "it was cut short", "what was written there isn't what is there"
UNREACHABLE_HINT = "see whether the server runs, and whether the environment has its endpoint, region and credentials"
PLAIN_HINT = "; an endpoint that begins with http:// also needs {}_ALLOW_HTTP=true"
ACCESS_HINT = "see whether the credentials in the environment are right, and may do this"
MISSING_HINT = "correct the URL, or create the bucket"
SETTINGS_HINT = "see whether its endpoint, credentials and other settings have a mistake, such as a line break"
CHANGED_HINT = (
    "see whether what is between this machine and the server changes ETags; "
    "or, if nothing else writes there meanwhile, save with lock=False (`--no-lock`)"
)
LOST_HINT = "wait until it has ended, then see what it saved"

Result = TypeVar("Result")


class Version(NamedTuple):
    """What identifies the content of an object: its ETag, and in some stores a number."""

    etag: str
    number: str | None = None


class Entry(NamedTuple):
    """An object in a listing; its name is relative to the prefix."""

    name: str
    size: int
    modified: datetime
    version: Version


class ContradictionError(StorageError):
    """An object wasn't replaced, as it has another version; but when it is read, it has the one that was expected."""


class _Connection(NamedTuple):
    library: Any
    store: Any  # of the library


class _Pool:
    """Threads that do tasks. A process that ends would wait for those of an executor, and they for a server."""

    def __init__(self, size: int) -> None:
        self._tasks: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        self._left = iter(range(size))  # threads that may be started

    def submit(self, task: Callable[[], Result]) -> "Future[Result]":
        """Have a thread do a task."""
        future: Future[Result] = Future()
        self._tasks.put((future, task))
        for _ in islice(self._left, 1):
            threading.Thread(target=self._work, name="bucket", daemon=True).start()
        return future

    def _work(self) -> None:
        while True:
            future, task = self._tasks.get()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(task())
                except BaseException as error:  # noqa: BLE001 - who waits for the result raises it
                    future.set_exception(error)
            del future, task


class _Engine:
    """The library in this process, and threads that wait for its answers.

    The threads of the library don't survive a fork, and nothing can start them again: its next call would hang. So a
    forked process loads another copy of it.
    """

    current: "_Engine | None" = None
    lock = threading.Lock()

    def __init__(self, library: Any) -> None:  # noqa: ANN401 - a module
        self.process, self.library = os.getpid(), library
        self.errors: tuple[type[Exception], ...] = (library.exceptions.BaseError, FileNotFoundError, _WrongAnswerError)
        self.pool = _Pool(MAX_REQUESTS)

    @classmethod
    def find(cls) -> "_Engine":
        """Find that of this process."""
        with cls.lock:
            if cls.current is None:
                cls.current = cls(_obstore)
            elif cls.current.process != os.getpid():
                cls.current = cls(_load_copy())
            return cls.current


os.register_at_fork(after_in_child=lambda: setattr(_Engine, "lock", threading.Lock()))


def _load_copy() -> ModuleType:
    """Load the library as if it were another one: from a file in memory, which stays open, so that its path is new."""
    copy = os.memfd_create("obstore")
    with Path(_obstore.__file__).open("rb") as file, os.fdopen(copy, "wb", closefd=False) as out:
        shutil.copyfileobj(file, out)
    path = f"/proc/self/fd/{copy}"
    loader = importlib.machinery.ExtensionFileLoader("_obstore", path)
    module = importlib.util.module_from_spec(importlib.machinery.ModuleSpec("_obstore", loader, origin=path))
    loader.exec_module(module)
    return module


class Bucket:
    """The objects below a URL, which needn't be there; their names are relative to it.

    Errors are those of `storage.errors`: `StoreNotFoundError` for an object or a bucket that isn't there, and
    `StorageError` for what the server refuses or what can't be reached. Nothing here knows what objects should contain.

    Parameters
    ----------
    url : Url
        The bucket, or a prefix in it.
    """

    def __init__(self, url: Url) -> None:
        self.url = url
        self._stores: dict[tuple[int, timedelta], Any] = {}

    def __reduce__(self) -> tuple[type["Bucket"], tuple[Url]]:
        """Pickle the URL only: credentials stay where they are."""
        return type(self), (self.url,)

    def list_objects(self, prefix: str = "") -> list[Entry]:
        """List all objects below a prefix that ends where a name between slashes does."""

        def collect(to: _Connection) -> list[Entry]:
            return [entry for chunk in to.library.list(to.store, prefix or None) for entry in _make_entries(chunk)]

        return self._repeat(prefix, collect)

    def find_any(self) -> Entry | None:
        """Find the object that is listed first; None if there is none, only folders that a server keeps."""

        def find(to: _Connection) -> Entry | None:
            return next((entry for chunk in to.library.list(to.store) for entry in _make_entries(chunk)), None)

        return self._repeat("", find)

    def list_folder(self) -> tuple[list[Entry], list[str]]:
        """List the objects whose names have no slash, and what is before the first slash of the others."""

        def collect(to: _Connection) -> tuple[list[Entry], list[str]]:
            found = to.library.list_with_delimiter(to.store)
            return _make_entries(found["objects"]), [*found["common_prefixes"]]

        return self._repeat("", collect)

    def read(self, name: str, limit: int = MAX_SINGLE) -> tuple[bytes, Version]:
        """Read a whole object of unknown size, of at most `limit` bytes."""
        content, entry = self.read_entry(name, limit)
        return content, entry.version

    def read_entry(self, name: str, limit: int = MAX_SINGLE) -> tuple[bytes, Entry]:
        """Read it, and what a listing would have about it."""

        def get(to: _Connection) -> tuple[bytes, Entry]:
            found = to.library.get(to.store, name)
            size = found.meta["size"]
            if size > limit:
                raise CorruptStoreError(f"it has {size:,} bytes, and at most {limit:,} are read", store=self.url / name)
            if found.attributes.get("Content-Type", "").partition(";")[0].strip().lower() in PAGES:
                raise _WrongAnswerError("a web page came in place of the object")
            content = bytes(found.bytes())
            if len(content) != size:
                raise _WrongAnswerError(CUT)
            return content, Entry(name, size, found.meta["last_modified"], _find_version(found.meta))

        return self._repeat(name, get)

    def read_ranges(self, name: str, ranges: Sequence[tuple[int, int]], size: int) -> list[memoryview]:
        """Read byte ranges, each from a start to a stop, of an object of this size: one request each, at once."""
        found: list[memoryview | None] = [None] * len(ranges)

        def keep(place: int, content: memoryview) -> None:
            found[place] = content

        self.read_pieces((name, each, size, partial(keep, place)) for place, each in enumerate(ranges))
        return [content for content in found if content is not None]

    def read_pieces(self, pieces: Iterable[tuple[str, tuple[int, int], int, Callable[[memoryview], None]]]) -> None:
        """Read byte ranges of objects: the name, the range, the size of the object, and what keeps the content."""
        self._run((partial(self._read_range, *each) for each in pieces), writes=False)

    def download(self, name: str, path: Path, size: int) -> None:
        """Read an object of this size into a new file."""
        self.download_all([(name, path, size)])

    def download_all(self, files: Iterable[tuple[str, Path, int]]) -> None:
        """Read objects into new files: their names, the paths and their sizes; many requests at once."""
        tasks = []
        for name, path, size in files:
            with writing(path):
                path.touch(exist_ok=False)
            for start in range(0, max(size, 1), CHUNK):
                each = start, min(start + CHUNK, size)
                tasks.append(partial(self._read_range, name, each, size, partial(_write_at, path, start)))
        self._run(tasks, writes=False)

    def upload_all(self, files: Iterable[tuple[Path, str]]) -> None:
        """Write files as objects: their paths and the names; each is verified."""
        self._run(partial(self.upload, *each) for each in files)

    def upload(self, path: Path, name: str) -> None:
        """Write a file as an object, and verify that the server has what the file has."""
        with reading(path), path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            content = _read_file(file, size) if size <= MAX_SINGLE else None
        if content is not None:
            self.write(name, content)
            return
        piece = max(PIECE, -(-size // MAX_PIECES))

        def put(to: _Connection) -> None:
            found = to.library.put(to.store, name, path, chunk_size=piece, max_concurrency=MAX_PIECES_AT_ONCE)
            if found["e_tag"] != _hash_pieces(path, piece) and not self._is_same(name, path):
                raise _WrongAnswerError(OTHER)

        self._repeat(name, put, REQUEST_TIMEOUT)

    def write(self, name: str, content: bytes | memoryview) -> None:
        """Write an object, whatever is there; verify that the server has this content."""

        def put(to: _Connection) -> None:
            found = to.library.put(to.store, name, content, use_multipart=False)
            if found["e_tag"] != _hash(content) and self.read(name)[0] != content:
                raise _WrongAnswerError(OTHER)

        self._repeat(name, put, REQUEST_TIMEOUT)

    def _is_same(self, name: str, path: Path) -> bool:
        """Read an object back, and compare it with a file."""
        size = path.stat().st_size
        with path.open("rb") as file:
            for start in range(0, size, CHUNK):
                (content,) = self.read_ranges(name, [(start, min(start + CHUNK, size))], size)
                if content != file.read(CHUNK):
                    return False
        return True

    def create(self, name: str, content: bytes) -> Version:
        """Write an object unless there is one, in one step; else raise `StoreLockedError`.

        Any other error may be that of an answer: the object may be there nevertheless.
        """
        return self._put_if(name, content, None)

    def replace(self, name: str, content: bytes, version: Version) -> Version:
        """Write an object if the one that is there is of this version, in one step; else as for `create`.

        Raise `ContradictionError` if the server says that it isn't, and it is when it is read.
        """
        return self._put_if(name, content, version)

    def _put_if(self, name: str, content: bytes, old: Version | None) -> Version:
        mode = "create" if old is None else _format_version(old)

        def put(to: _Connection) -> Version:
            raised = to.library.exceptions
            try:
                return _find_version(to.library.put(to.store, name, content, mode=mode, use_multipart=False))
            except (
                raised.AlreadyExistsError,
                raised.PreconditionError,
                raised.GenericError,
                FileNotFoundError,
            ) as error:
                found = self.find(name)
                if found and found[0] == content:  # the answer to an earlier attempt was lost
                    return found[1]
                if (found and found[1]) != old:
                    raise StoreLockedError(
                        "another writer has saved there meanwhile", store=self.url / name, hint=LOST_HINT
                    ) from None
                if old and isinstance(error, raised.PreconditionError):
                    problem = "the server says that it was changed meanwhile, which it wasn't (412)"
                    raise ContradictionError(problem, store=self.url / name, hint=CHANGED_HINT) from None
                raise

        return self._repeat(name, put)

    def find(self, name: str) -> tuple[bytes, Version] | None:
        """Read an object; None if there is none."""
        try:
            return self.read(name)
        except StoreNotFoundError:
            return None

    def find_version(self, name: str) -> Version | None:
        """Ask for the version of an object; None if there is none."""
        try:
            return self._repeat(name, lambda to: _find_version(to.library.head(to.store, name)))
        except StoreNotFoundError:
            return None

    def find_all(self, names: Iterable[str], keep: Callable[[str, tuple[bytes, Version] | None], None]) -> None:
        """Read objects, many at once; each is kept when it comes, and so is None for one that isn't there."""

        def find(name: str) -> None:
            keep(name, self.find(name))

        self._run((partial(find, name) for name in names), writes=False)

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects; those that aren't there are no error."""
        listed = list(names)

        def delete(some: Sequence[str]) -> None:
            try:
                self._repeat("", lambda to: to.library.delete(to.store, some))
            except StoreNotFoundError:  # from a store that removes them one by one
                if len(some) > 1:
                    for each in some:
                        delete([each])

        self._run(partial(delete, listed[start : start + BULK]) for start in range(0, len(listed), BULK))

    def _read_range(self, name: str, each: tuple[int, int], size: int, keep: Callable[[memoryview], None]) -> None:
        def get(to: _Connection) -> memoryview:
            found = to.library.get(to.store, name, options={"range": each} if size else None)
            if found.meta["size"] != size:
                problem = f"it has {found.meta['size']:,} bytes instead of {size:,}"
                raise CorruptStoreError(problem, store=self.url / name)
            content = memoryview(found.bytes())
            if len(content) != each[1] - each[0]:
                raise _WrongAnswerError(CUT)
            return content

        keep(self._repeat(name, get))

    def _repeat(self, name: str, call: Callable[[_Connection], Result], timeout: timedelta = TIMEOUT) -> Result:
        """Call the library; repeat what the server, or what is between, may do right the next time.

        The main thread has another one do that, because Ctrl-C ends no call of the library.
        """
        engine = _Engine.find()
        if threading.current_thread() is threading.main_thread():
            future = engine.pool.submit(partial(self._call, engine, name, call, timeout))
            _wait([future])
            return future.result()
        return self._call(engine, name, call, timeout)

    def _call(self, engine: _Engine, name: str, call: Callable[[_Connection], Result], timeout: timedelta) -> Result:
        try:
            return self._attempt(engine, name, call, self._connect(engine, name, timeout))
        except BaseException as error:
            if type(error).__name__ != PANIC:
                raise
            raise self._refuse_settings(name) from None

    def _connect(self, engine: _Engine, name: str, timeout: timedelta) -> _Connection:
        try:
            return _Connection(engine.library, self._open(engine, timeout))
        except engine.errors:
            raise self._refuse_settings(name) from None

    def _refuse_settings(self, name: str) -> StorageError:
        url = self.url / name if name else self.url
        return StorageError("the library can't use what the environment has", store=url, hint=SETTINGS_HINT)

    def _attempt(self, engine: _Engine, name: str, call: Callable[[_Connection], Result], to: _Connection) -> Result:
        end = time.monotonic() + MAX_ELAPSED
        pauses = iter([PAUSE * 2**attempt for attempt in range(ATTEMPTS - 1)])
        while True:
            try:
                return call(to)
            except engine.errors as error:
                passes = isinstance(error, (engine.library.exceptions.GenericError, _WrongAnswerError))
                pause = next(pauses, None) if passes and time.monotonic() < end else None
                if pause is None:
                    raise self._explain(name, error, engine.library.exceptions) from None
            time.sleep(pause)

    def _open(self, engine: _Engine, timeout: timedelta) -> Any:  # noqa: ANN401 - of the library
        key = engine.process, timeout
        if key not in self._stores:
            kind, prefix = STORES[self.url.scheme]
            names = {name: f"{prefix}_{name.upper()}" for name in CLIENT}
            found = {name: os.environ[variable] for name, variable in names.items() if variable in os.environ}
            make = getattr(engine.library._store, kind)  # noqa: SLF001 - of the library, whose other copy has no more
            self._stores[key] = make(
                self.url.bucket,
                prefix=self.url.prefix or None,
                client_options=found | {"timeout": REQUEST_TIMEOUT, "read_timeout": timeout},
                retry_config=RETRIES,
            )
        return self._stores[key]

    def _explain(self, name: str, error: Exception, kinds: Any) -> StorageError:  # noqa: ANN401 - likewise
        """Make our error: the library's message may have the endpoint in it, or worse."""
        url, text = self.url / name if name else self.url, str(error)
        status, code = STATUS.search(text), CODE.search(text)
        answer = " ".join(found[1] for found in (status, code) if found)
        if isinstance(error, FileNotFoundError) or answer.endswith("NoSuchBucket"):
            return StoreNotFoundError("there is no such object or bucket", store=url, hint=MISSING_HINT)
        if isinstance(error, (kinds.PermissionDeniedError, kinds.UnauthenticatedError)) or answer[:3] in {"401", "403"}:
            return StorageError(f"the server refused access ({answer})", store=url, hint=ACCESS_HINT)
        if isinstance(error, _WrongAnswerError):
            return StorageError(f"the server's answer is wrong: {error}", store=url, hint=ANSWER_HINT)
        problem = f"the server answered with an error ({answer})" if answer else "no answer came, or a wrong one"
        variables = STORES[self.url.scheme][1]
        plain = "" if f"{variables}_ALLOW_HTTP" in os.environ else PLAIN_HINT.format(variables)
        return StorageError(problem, store=url, hint=UNREACHABLE_HINT + plain)

    def _run(self, tasks: Iterable[Callable[[], None]], *, writes: bool = True) -> None:
        """Do tasks at once, and wait for all of them; after an error, those that haven't begun are left out.

        After Ctrl-C, what writes to the bucket is given a few seconds, so that what it wrote can be removed.
        """
        engine = _Engine.find()
        futures = [engine.pool.submit(task) for task in tasks]
        seconds: float | None = LINGER if writes else 0
        try:
            _wait(futures)
            seconds = None
        finally:
            for future in futures:
                future.cancel()
            wait(futures, seconds)
        for future in futures:  # those after the one that failed were cancelled
            future.result()


def _wait(futures: Sequence["Future[Any]"]) -> None:
    """Wait for all, or for one that failed; look up at times, as Ctrl-C just before a wait doesn't end it."""
    left: Iterable[Future[Any]] = futures
    while left and not any(each.done() and each.exception() for each in futures):
        left = wait(futures, LOOK_UP, FIRST_EXCEPTION).not_done


class _WrongAnswerError(Exception):
    """The server, or a proxy, answered with something else than what was asked for."""


def _make_entries(found: Iterable[Any]) -> list[Entry]:
    """List objects, but for the one that some programs make so that a prefix looks like a folder."""
    return [
        Entry(each["path"], each["size"], each["last_modified"], _find_version(each)) for each in found if each["path"]
    ]


def _find_version(found: Any) -> Version:  # noqa: ANN401 - likewise
    if found["e_tag"] is None:
        raise _WrongAnswerError("it has no ETag")
    return Version(found["e_tag"], found["version"])


def _format_version(version: Version) -> dict[str, str]:
    return {"e_tag": version.etag} | ({} if version.number is None else {"version": version.number})


def _read_file(file: BufferedReader, size: int) -> memoryview:
    """Read a file into memory that the system gets back after use: `malloc` would keep it, for each thread."""
    content = memoryview(mmap.mmap(-1, size or 1))
    return content[: file.readinto(content[:size])]


def _write_at(path: Path, start: int, content: memoryview) -> None:
    with writing(path), path.open("r+b", buffering=0) as file:  # open no longer than that: there may be many files
        while content:
            count = os.pwrite(file.fileno(), content, start)
            start, content = start + count, content[count:]


def _hash(content: bytes | memoryview) -> str:
    """Make the ETag that a server gives an object that it got in one piece, unless it encrypts it."""
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'


def _hash_pieces(path: Path, size: int) -> str:
    """Make the ETag that a server gives an object that it got in pieces of this size."""
    digests = []
    with path.open("rb") as file:
        while piece := file.read(size):
            digests.append(hashlib.md5(piece, usedforsecurity=False).digest())
    return f'{_hash(b"".join(digests))[:-1]}-{len(digests)}"'
