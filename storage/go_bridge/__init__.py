"""The Go bridge: Badger and Bolt, key-value stores written in Go, in one C shared library that ctypes loads.

``python -m storage.go_bridge`` builds the library into the user's cache, under a name that depends on its sources, so
other versions of the sources never load it. Records cross the boundary in batches, and errors come back as text.

The Go runtime doesn't survive a fork. A forked process therefore loads a copy of the library, which has its own
runtime, and never calls its parent's.

Library: cgo (https://pkg.go.dev/cmd/cgo), ``go build -buildmode=c-shared`` (https://pkg.go.dev/cmd/go).
"""

import ctypes
import hashlib
import json
import os
import weakref
from contextlib import suppress
from ctypes import c_char_p, c_int64, c_void_p
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendUnavailableError, StorageError
from ..reader import fork_lock

SOURCES = sorted(path for path in Path(__file__).parent.iterdir() if path.suffix in {".go", ".mod"})
PACKAGES = {"badger": "golang-github-dgraph-io-badger-dev", "bbolt": "golang-github-coreos-bbolt-dev"}  # of Debian
INSTALL = f"apt-get install golang-go {' '.join(PACKAGES.values())}"
BUILD = f"python -m {__name__}"
READ = -1  # the size of a store that is opened for reading

Offsets = NDArray[np.int64] | None

_loaded: list[ctypes.CDLL] = []  # by this process
_inherited: list[ctypes.CDLL] = []  # loaded by a process that forked this one


class BridgeError(Exception):
    """An error in Go, in its words."""


def find_library() -> Path:
    """Find the place of the library that is built from these sources."""
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in SOURCES)).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "image-storage-benchmarks" / f"go-bridge-{digest[:16]}.so"


def read_versions(name: str) -> dict[str, str]:
    """Read the versions of ``badger`` or ``bbolt``, and of Go, that the library was built from."""
    library = find_library()
    with suppress(FileNotFoundError):
        versions = json.loads(library.with_suffix(".json").read_bytes())
        if library.is_file():
            return {name: versions[name], "Go": versions["Go"]}
    raise BackendUnavailableError("the Go bridge is not built", hint=f"{INSTALL}, then {BUILD}")


class Records:
    """An open store of records of the engine ``badger`` or ``bolt``; keys have 8 bytes and are put in ascending order.

    To write a store, give as many bytes of addresses as are enough for it as `size`.
    """

    def __init__(self, engine: str, path: bytes, size: int = READ) -> None:
        self._library = _load()
        handle = c_int64()
        self._check(self._library.bridge_open(engine.encode(), path, size, ctypes.byref(handle)))
        self._handle = handle.value
        self._finalizer = weakref.finalize(self, _close, self._library, self._handle)
        self._finalizer.atexit = False

    def put(self, keys: NDArray[Any], heads: NDArray[Any], tails: NDArray[Any], offsets: Offsets = None) -> None:
        """Put a record for each key; its value is the part of `heads` and then the part of `tails`.

        Parts of `heads` have one size, or `offsets` says where each starts, and where the last one ends.
        """
        self._call(self._library.bridge_put, keys, heads.ctypes.data, heads.nbytes, tails, offsets)

    def get(self, keys: NDArray[Any], heads: NDArray[Any], tails: NDArray[Any], offsets: Offsets = None) -> None:
        """Get the records of these keys, in any order; arrays are C-contiguous."""
        self._call(self._library.bridge_get, keys, heads.ctypes.data, heads.nbytes, tails, offsets)

    def scan(self, keys: NDArray[Any], heads: NDArray[Any], tails: NDArray[Any], offsets: Offsets = None) -> None:
        """Get the records of keys that follow each other."""
        self._call(self._library.bridge_scan, keys, heads.ctypes.data, heads.nbytes, tails, offsets)

    def scan_tails(self, keys: NDArray[Any], heads: int, tails: NDArray[Any], offsets: Offsets = None) -> None:
        """Do what `scan` does without the heads, which have `heads` bytes together."""
        self._call(self._library.bridge_scan, keys, None, heads, tails, offsets)

    def close(self) -> None:
        """Close the store."""
        if self._finalizer.detach():
            self._check(self._library.bridge_close(self._handle))

    def __enter__(self) -> Self:
        """Return the records themselves."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the store."""
        self.close()

    def _call(
        self,
        function: Any,  # noqa: ANN401 - of ctypes
        keys: NDArray[Any],
        heads: int | None,
        size: int,
        tails: NDArray[Any],
        offsets: Offsets,
    ) -> None:
        if len(keys):
            arrays = keys.ctypes.data, keys.nbytes, heads, size, tails.ctypes.data, tails.nbytes
            self._check(function(self._handle, *arrays, None if offsets is None else offsets.ctypes.data))

    def _check(self, text: int | None) -> None:
        if text is not None:
            message = ctypes.string_at(text).decode(errors="replace")
            self._library.bridge_free(text)
            raise BridgeError(message)


def _close(library: ctypes.CDLL, handle: int) -> None:
    library.bridge_free(library.bridge_close(handle))


def _load() -> ctypes.CDLL:
    """Load the library once per process: in a forked one a copy, which the linker takes for another library."""
    with fork_lock:
        if not _loaded:
            library = find_library()
            _loaded.append(_load_copy(library) if _inherited else _load_file(os.fspath(library)))
        return _loaded[0]


def _begin_child() -> None:
    _inherited.extend(_loaded)
    _loaded.clear()


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
        raise StorageError(f"the Go bridge can't be loaded ({error})", hint=f"build it: {BUILD}") from error
    batch: list[Any] = [c_int64, *[c_void_p, c_int64] * 3, c_void_p]
    opening: list[Any] = [c_char_p, c_char_p, c_int64, c_void_p]
    for name, types in {"open": opening, "close": [c_int64], "put": batch, "get": batch, "scan": batch}.items():
        function = getattr(library, f"bridge_{name}")  # library["bridge_..."] would be another object each time
        function.argtypes, function.restype = types, c_void_p
    library.bridge_free.argtypes, library.bridge_free.restype = [c_void_p], None
    return library
