"""System calls that fail: each that touches the store, in turn, with each error that it can return; and SIGINT."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import storage
from tests.faults.children import Ending, spread
from tests.faults.extent import Extent
from tests.faults.findings import GUILTY, Findings
from tests.faults.judge import STATES, STORE, ImageSet, inspect, make_sets, prepare, save_template
from tests.faults.strace import Call, inject, trace_calls

WRITE = {"write", "pwrite64", "writev", "pwritev", "fallocate", "ftruncate", "copy_file_range", "sendfile"}
NAME = {"mkdir", "mkdirat", "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat"}
SYNC = {"fsync", "fdatasync", "msync", "sync_file_range", "syncfs"}
OPEN = {"open", "openat", "openat2", "creat"}
READ = {"read", "pread64", "readv", "preadv", "getdents", "getdents64", "stat", "fstat", "lstat", "newfstatat", "statx"}
OTHER = {"close", "unlink", "unlinkat", "rmdir", "mmap", "flock", "statfs", "fstatfs"}
SIGINT = "SIGINT"

FAILURES: Mapping[str, set[str]] = {
    "ENOSPC": WRITE | NAME | SYNC | OPEN,
    "EIO": WRITE | NAME | SYNC | OPEN | READ | OTHER,
    "EFBIG": WRITE,
    "EMFILE": OPEN | {"dup", "dup2", "dup3"},
}

# Calls that may fail while the save succeeds, if the new store is whole then.
HARMLESS = {
    "close": "all was written before; where it must be on the disk, fsync has said so, and close says nothing new",
}
HARMLESS_WHEN_TIDYING = {
    name: "what was replaced, or left by a dead writer, is not deleted now: the next save does it"
    for name in OPEN | READ | OTHER | {"fcntl"}
}


class Failure(NamedTuple):
    """A call and how it fails."""

    call: Call
    error: str

    def describe(self) -> str:
        """Say which call fails, and how."""
        return f"{self.error} of {self.call.describe()}"


def fail_at_calls(backend: str, folder: Path, extent: Extent, errors: set[str], *, count: int) -> Findings:
    """Replace a set once for each call that touches the store and each error, with that call failing.

    Parameters
    ----------
    backend : str
    folder : Path
        Empty.
    extent : Extent
        All calls, or some.
    errors : set of str
        Of `FAILURES`, or ``SIGINT``.
    count : int
        Images of the set.
    """
    sets = make_sets(count, 32)
    template = save_template(folder, sets, backend)

    def run(failure: Failure, own: Path) -> str:
        path = prepare(own, template)
        fault = "signal=INT" if failure.error == SIGINT else f"error={failure.error}"
        ending, happened = inject(partial(_save, path, sets.new, backend), failure.call, fault)
        state = inspect(path, sets, backend)
        return _judge(failure, ending, state) if happened else f"{GUILTY}it did not happen"

    (folder / "traced").mkdir()
    path = prepare(folder / "traced", template)
    calls = trace_calls(partial(_save, path, sets.new, backend), path)
    failures = extent.choose(list(_list_failures(calls, errors)), 8)
    return list(zip([failure.describe() for failure in failures], spread(failures, run, folder), strict=True))


def _list_failures(calls: list[Call], errors: set[str]) -> Iterator[Failure]:
    for call in calls:
        for error in sorted(errors):
            if error == SIGINT or (call.name in FAILURES[error] and not _is_no_creation(call, error)):
                yield Failure(call, error)


def _is_no_creation(call: Call, error: str) -> bool:
    return error == "ENOSPC" and call.name in OPEN and "O_CREAT" not in call.text


def _save(path: Path, image_set: ImageSet, backend: str) -> str:
    """Save; an error of ours, or an interruption, is told and is no accident."""
    try:
        storage.save(path, *image_set, backend, overwrite=True)
    except storage.StorageError as error:
        named = str(path) in str(error)
        return "refused" if named else f"the message does not name the store: {type(error).__name__}: {error}"
    except KeyboardInterrupt:
        return "interrupted"
    return ""


def _judge(failure: Failure, ending: Ending, state: str) -> str:
    if state not in STATES:
        return state if not ending.signal else f"{state}; {ending.describe()}"
    if failure.error == SIGINT:
        return state if ending.describe() == "interrupted" and state != "absent" else _blame(ending, state)
    if ending.describe() == "refused":
        return "old" if state == "old" else _blame(ending, state)
    if ending == Ending(0, "") and state == "new" and is_harmless(failure.call):
        return f"new, though {failure.call.name} failed"
    return _blame(ending, state)


def is_harmless(call: Call) -> bool:
    """Tell whether a save may succeed though this call fails."""
    tidying = f"/.{STORE}.tmp-" in call.text and call.committed
    return call.name in HARMLESS or (tidying and call.name in HARMLESS_WHEN_TIDYING)


def _blame(ending: Ending, state: str) -> str:
    return f"{GUILTY}{ending.describe() or 'saved without an error'}, and then {state}"
