"""The Go bridge: two key-value stores written in Go, Badger and Bolt, in one C shared library that ctypes loads.

``python -m storage.go_bridge`` builds the library into the user's cache, under a name that its sources decide: another
version of them never loads it. Records cross the boundary in batches. What went wrong comes back as text.

The Go runtime does not survive a fork. A forked process therefore loads a copy of the library, with a runtime of its
own, beside the one of its parent, which it never calls again.

Library: cgo (https://pkg.go.dev/cmd/cgo), ``go build -buildmode=c-shared`` (https://pkg.go.dev/cmd/go).
"""

import ctypes
import hashlib
import json
import os
import weakref
from ctypes import c_char_p, c_int64, c_void_p
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from numpy.typing import NDArray

from ..errors import BackendUnavailableError, StorageError
from ..reader import fork_lock

SOURCES = sorted(path for path in Path(__file__).parent.iterdir() if path.name == "go.mod" or path.suffix == ".go")
PACKAGES = {"badger": "golang-github-dgraph-io-badger-dev", "bbolt": "golang-github-coreos-bbolt-dev"}  # of Debian
INSTALL = f"apt-get install golang-go {' '.join(PACKAGES.values())}"
READ = -1  # bytes of a store that is opened to be read

_loaded: list[ctypes.CDLL] = []  # by this process, and by those that forked it
_foreign = 0  # how many of them are not of this process


class BridgeError(Exception):
    """What went wrong in Go, in its words."""


def find_library() -> Path:
    """Find where the library of these sources is, or will be once it is built."""
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in SOURCES)).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "image-storage-benchmarks" / f"go-bridge-{digest[:16]}.so"


def read_versions(name: str) -> dict[str, str]:
    """Read which versions the library was built of.

    Parameters
    ----------
    name : str
        ``badger`` or ``bbolt``.

    Returns
    -------
    dict of str to str
        Of this module and of Go.

    Raises
    ------
    BackendUnavailableError
        The library is not built.
    """
    library = find_library()
    try:
        versions = json.loads(library.with_suffix(".json").read_bytes())
        if library.is_file():
            return {name: versions[name], "Go": versions["Go"]}
    except FileNotFoundError:
        pass
    raise BackendUnavailableError(f"the Go bridge is not built: {INSTALL}, then python -m {__name__}")


class Records:
    """An open store of records; a key has 8 bytes, keys are put in ascending order.

    Parameters
    ----------
    engine : str
        ``badger`` or ``bolt``.
    path : bytes
        What the engine stores into.
    size : int
        Bytes of addresses that are enough for a store that is written; `READ` opens one to read.

    Raises
    ------
    BridgeError
        The engine could not open it.
    """

    def __init__(self, engine: str, path: bytes, size: int = READ) -> None:
        self._library, self._process = _load(), os.getpid()
        handle = c_int64()
        self._tell(self._library.bridge_open(engine.encode(), path, size, ctypes.byref(handle)))
        self._handle = handle.value
        self._forgotten = weakref.finalize(self, _forget, self._library, self._handle, self._process)
        self._forgotten.atexit = False

    def put(self, keys: NDArray[Any], heads: NDArray[Any], tails: NDArray[Any]) -> None:
        """Put one record for each key: a value is a part of `heads` and then a part of `tails`, all alike."""
        self._call("put", keys, heads.ctypes.data, heads.nbytes, tails)

    def get(self, keys: NDArray[Any], heads: NDArray[Any], tails: NDArray[Any]) -> None:
        """Get the records of these keys, in any order; arrays are C-contiguous."""
        self._call("get", keys, heads.ctypes.data, heads.nbytes, tails)

    def scan(self, keys: NDArray[Any], heads: NDArray[Any], tails: NDArray[Any]) -> None:
        """Do what `get` does for keys that follow each other."""
        self._call("scan", keys, heads.ctypes.data, heads.nbytes, tails)

    def scan_tails(self, keys: NDArray[Any], head: int, tails: NDArray[Any]) -> None:
        """Do what `scan` does, without the heads, which have this many bytes each."""
        self._call("scan", keys, None, head * len(keys), tails)

    def close(self) -> None:
        """Close the store; one that was opened before a fork is left to the process that opened it."""
        if self._process == os.getpid() and self._forgotten.detach():
            self._tell(self._library.bridge_close(self._handle))

    def __enter__(self) -> Self:
        """Return the records themselves."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the store."""
        self.close()

    def _call(self, name: str, keys: NDArray[Any], heads: int | None, size: int, tails: NDArray[Any]) -> None:
        if not len(keys):
            return
        if self._process != os.getpid():
            raise BridgeError("this store was opened before a fork: open it anew")
        function = getattr(self._library, f"bridge_{name}")
        self._tell(function(self._handle, keys.ctypes.data, keys.nbytes, heads, size, tails.ctypes.data, tails.nbytes))

    def _tell(self, text: int | None) -> None:
        if text is not None:
            message = ctypes.string_at(text).decode(errors="replace")
            self._library.bridge_free(text)
            raise BridgeError(message)


def _forget(library: ctypes.CDLL, handle: int, process: int) -> None:
    """Close a store that nothing refers to any more, if this process opened it."""
    if process == os.getpid():
        library.bridge_free(library.bridge_close(handle))


def _load() -> ctypes.CDLL:
    """Load the library once a process; in a forked one a copy of it, which the linker takes for another library."""
    with fork_lock:
        if len(_loaded) == _foreign:
            library = find_library()
            _loaded.append(_load_copy(library) if _loaded else _load_file(os.fspath(library)))
        return _loaded[-1]


def _begin_child() -> None:
    global _foreign  # noqa: PLW0603 - a fork changes it, nothing else
    _foreign = len(_loaded)


os.register_at_fork(after_in_child=_begin_child)


def _load_copy(library: Path) -> ctypes.CDLL:
    descriptor = os.memfd_create("go-bridge")
    try:
        with open(descriptor, "wb", closefd=False) as copy:
            copy.write(library.read_bytes())
        return _load_file(f"/proc/{os.getpid()}/fd/{descriptor}")  # a name that no other process has loaded
    finally:
        os.close(descriptor)


def _load_file(path: str) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        raise StorageError(f"the Go bridge cannot be loaded ({error}): python -m {__name__} builds it") from error
    batch: list[Any] = [c_int64, *[c_void_p, c_int64] * 3]
    opening: list[Any] = [c_char_p, c_char_p, c_int64, c_void_p]
    for name, types in {"open": opening, "close": [c_int64], "put": batch, "get": batch, "scan": batch}.items():
        function = getattr(library, f"bridge_{name}")  # an item would be another object each time
        function.argtypes, function.restype = types, c_void_p
    library.bridge_free.argtypes, library.bridge_free.restype = [c_void_p], None
    return library
