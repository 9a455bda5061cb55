"""System calls that fail: each that touches the store, in turn, with each error that it can return; and SIGINT."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import storage
from tests.faults.children import Ending, spread
from tests.faults.extent import Extent
from tests.faults.findings import GUILTY, Findings
from tests.faults.judge import STORE, ImageSet, inspect, make_sets, prepare, save_template
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
HARMLESS_WHEN_TIDYING = dict.fromkeys(
    OPEN | READ | OTHER | {"fcntl"},
    "what was replaced, or left by a dead writer, is not deleted now: the next save does it",
)


def fail_at_calls(backend: str, folder: Path, extent: Extent, error: str, *, count: int) -> Findings:
    """Replace a set once for each call that touches the store, with that call failing.

    Parameters
    ----------
    backend : str
    folder : Path
        Empty.
    extent : Extent
        All calls, or some.
    error : str
        Of `FAILURES`, or ``SIGINT``.
    count : int
        Images of the set.
    """
    sets = make_sets(count, 32)
    template = save_template(folder, sets, backend)

    def run(call: Call, own: Path) -> str:
        path = prepare(own, template)
        fault = "signal=INT" if error == SIGINT else f"error={error}"
        ending, happened = inject(partial(_save, path, sets.new, backend), call, fault)
        state = inspect(path, sets, backend)
        if not happened:
            return f"{GUILTY}it did not happen"
        return _judge_interruption(ending, state) if error == SIGINT else _judge(call, ending, state)

    (folder / "traced").mkdir()
    path = prepare(folder / "traced", template)
    calls = trace_calls(partial(_save, path, sets.new, backend), path)
    calls = extent.choose([call for call in calls if _can_fail(call, error)], 4)
    return list(zip([call.describe() for call in calls], spread(calls, run, folder), strict=True))


def _can_fail(call: Call, error: str) -> bool:
    if error == "ENOSPC" and call.name in OPEN:
        return "O_CREAT" in call.text
    return error == SIGINT or call.name in FAILURES[error]


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


def _judge(call: Call, ending: Ending, state: str) -> str:
    """Judge a failure: an error of ours and the old store, or no error and the new one where that does no harm."""
    if ending == Ending(0, "refused") and state == "old":
        return state
    if ending == Ending(0, "") and state == "new" and is_harmless(call):
        return f"new, though {call.name} failed"
    return _blame(ending, state)


def _judge_interruption(ending: Ending, state: str) -> str:
    return state if ending == Ending(0, "interrupted") and state in {"old", "new"} else _blame(ending, state)


def _blame(ending: Ending, state: str) -> str:
    return f"{GUILTY}{ending.describe() or 'saved without an error'}, and then {state.removeprefix(GUILTY)}"


def is_harmless(call: Call) -> bool:
    """Tell whether a save may succeed though this call fails."""
    tidying = f"/.{STORE}.tmp-" in call.text and call.committed
    return call.name in HARMLESS or (tidying and call.name in HARMLESS_WHEN_TIDYING)
