"""System calls that fail: each that touches the store, in turn, with each error that it can return; and SIGINT."""

import errno
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import storage
from storage import Images
from storage.contract import Kind
from tests.faults.children import Ending, spread
from tests.faults.extent import Extent
from tests.faults.findings import GUILTY, NOT_REACHED, Findings
from tests.faults.judge import STORE, ImageSet, Sets, inspect, make_sets, prepare, read_manifest, save_template
from tests.faults.strace import MAP, Call, Injected, drop_overtaken, find_syncs, inject, trace_calls

WRITE = {"write", "pwrite64", "writev", "pwritev", "fallocate", "ftruncate", "copy_file_range", "sendfile"}
NAME = {"mkdir", "mkdirat", "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat"}
SYNC = {"fsync", "fdatasync", "msync", "sync_file_range", "syncfs"}
OPEN = {"open", "openat", "openat2", "creat"}
STAT = {"stat", "fstat", "lstat", "newfstatat", "statx"}
READ = STAT | {"read", "pread64", "readv", "preadv", "getdents", "getdents64"}
OTHER = {"close", "unlink", "unlinkat", "rmdir", "flock", "statfs", "fstatfs"}
SIGINT = "SIGINT"
SAVED = {"new": "saved", "old": "refused"}  # what the first save told, by what is there then
REFUSED = ", but this process cannot save again: "
ERRORS = {name: number for number, name in errno.errorcode.items()}
PART, LOG = re.compile(r"/part-\d{5}"), re.compile(r"/part-\d{5}-\w+/LOG")
NATURAL = re.compile(r" = -1 E(NOENT|EXIST)\b")

FAILURES: Mapping[str, set[str]] = {
    "ENOSPC": WRITE | NAME | SYNC | OPEN,
    "EIO": WRITE | NAME | SYNC | OPEN | READ | OTHER,
    "EFBIG": WRITE,
    "EMFILE": OPEN | {"dup", "dup2", "dup3", "fcntl"},
}

# Calls that may fail while the save succeeds: if the new store is whole then, its manifest is that of a save without a
# fault, and the disk was waited for as often.
HARMLESS: Mapping[str, str] = {
    "close": "what was written is written; where it must be on the disk, fsync has said so before",
    **dict.fromkeys(STAT, "a look whose answer changes nothing, such as Python's at a file that it has opened"),
    **dict.fromkeys(["open", "openat", "read"], "LMDB looks at the beginning of its file before it opens it"),
    **dict.fromkeys(["pread64", "preadv", "readv"], "what is read back is then read again, record by record"),
    "fcntl": "a library asks for the flags of a file, or a folder is listed that was replaced",
    "flock": "the lock is let go a second time; this process has saved there again",
    **dict.fromkeys(["statfs", "fstatfs"], "LMDB asks whether the file system is a network's, and needs no answer"),
}
DIARY = "LevelDB writes down what it does, for people; no program reads it"
TIDIES = {"getdents64", "unlink", "unlinkat"}
TIDIED = "a library tidies its folder, and leaves no file that would not be there otherwise"
HARMLESS_AT_NOTHING = "it fails without a fault, too: nothing is there, or it is there already"
LOST = "shutil.rmtree of Python 3.11 closes a folder twice if interrupted there; its own error hides the interruption"
HARMLESS_WHEN_TIDYING = "what was replaced is not deleted now: the next save does it"


def fail_at_calls(
    backend: str, folder: Path, extent: Extent, errors: Sequence[str], *, count: int, kind: Kind = "pixels"
) -> dict[str, Findings]:
    """Replace a set once for each call that touches the store, with that call failing."""
    sets = make_sets(count, 32, kind)
    template = save_template(folder, sets, backend)
    (folder / "traced").mkdir()
    path = prepare(folder / "traced", template)
    calls = trace_calls(partial(_save, path, sets.new, backend), path)
    usual = Usual(sets, backend, path, calls)
    cases = [(error, call) for error in errors for call in _choose(calls, error, extent)]

    def run(case: tuple[str, Call], own: Path) -> str:
        error, call = case
        path = prepare(own, template)
        fault = "signal=INT" if error == SIGINT else f"error={error}"
        injected = inject(partial(_save_twice, path, sets.new, backend), call, fault, path)
        return usual.judge(error, call, injected, path)

    found: dict[str, Findings] = {error: [] for error in errors}
    for (error, call), outcome in zip(cases, spread(cases, run, folder), strict=True):
        found[error].append((call.describe(), outcome))
    return found


def _choose(calls: Sequence[Call], error: str, extent: Extent) -> list[Call]:
    able = [call for call in calls if _can_fail(call, error)]
    return extent.choose(drop_overtaken(able) if error == SIGINT else able, 1, lambda call: (error, call.name))


def _can_fail(call: Call, error: str) -> bool:
    if error == SIGINT:
        return True
    if error == "ENOSPC" and call.name in OPEN:
        return "O_CREAT" in call.text
    if call.name == "fcntl":
        return error == "EMFILE" and "F_DUPFD" in call.text
    return call.name in FAILURES[error]


class GivenUpError(Exception):
    """Raised by the images of the second save."""


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


def _save_twice(path: Path, image_set: ImageSet, backend: str) -> str:
    """Save, and begin to save again in the same process, which holds no lock any more; that changes nothing."""

    def give_up() -> Iterator[Images]:
        raise GivenUpError
        yield image_set[0]

    told = _save(path, image_set, backend)
    try:
        storage.save(path, give_up(), image_set[1], backend, overwrite=True)
    except GivenUpError:
        return told
    except storage.StorageError as error:
        return f"{told or SAVED['new']}{REFUSED}{error}"
    return "saved, although the images gave up"


class Usual:
    """A save without a fault, to compare with one that had a fault."""

    def __init__(self, sets: Sets, backend: str, path: Path, calls: Sequence[Call]) -> None:
        self._sets, self._backend = sets, backend
        self._syncs = find_syncs(call.text for call in calls)
        self._manifest = read_manifest(path)
        self._threads = not all(call.first for call in calls)

    def judge(self, error: str, call: Call, injected: Injected, path: Path) -> str:
        """Judge what came of a fault: the outcome, guilty or not."""
        asked = self._threads and call.name in STAT  # TileDB notes how large a file is, if it can learn that
        alike = asked or (self._is_synced(injected.syncs) and read_manifest(path) == self._manifest)
        state = inspect(path, self._sets, self._backend)
        if self._threads and state in SAVED and is_late(error, SAVED[state], injected.ending):
            return f"{state}, as the fault came to the next save: with threads, calls are not always as many"
        if injected.signalled:
            return _judge_interruption(injected.signalled, injected.ending, state, threads=self._threads)
        if not injected.failed:
            ended_well = injected.ending == Ending(0, "") and state == "new"
            return NOT_REACHED if (self._threads or call.name == MAP) and ended_well else f"{GUILTY}it did not happen"
        return _judge(call, injected, state, alike=alike)

    def _is_synced(self, syncs: Sequence[str]) -> bool:
        """Whether the disk was waited for as often; a library's thread may do so more often, or less."""
        return len(set(syncs)) == len(set(self._syncs)) if self._threads else len(syncs) == len(self._syncs)


def _judge(call: Call, injected: Injected, state: str, *, alike: bool) -> str:
    """Judge a failure: an error of ours and the old store, or no error and the new one where that does no harm."""
    ending = injected.ending
    if ending == Ending(0, "refused") and state == "old":
        return state
    if injected.elsewhere == len(injected.failed) and state in {"old", "new"}:
        return f"{state}, though a call elsewhere failed"
    reasons = {HARMLESS_AT_NOTHING if NATURAL.search(call.text) else find_excuse(hit) for hit in injected.failed}
    if ending == Ending(0, "") and state == "new" and alike and all(reasons):
        return f"new, though {call.name} failed: {'; '.join(sorted(reasons))}"
    return _blame(ending, state if alike else f"{state}, with another manifest or not synced")


def is_late(error: str, saved: str, ending: Ending) -> bool:
    """Find out whether a fault has come to the second save alone."""
    if error not in FAILURES or not ending.told.startswith(saved + REFUSED):
        return False
    return any(words in ending.told for words in (f"[Errno {ERRORS[error]}]", os.strerror(ERRORS[error])))


def _judge_interruption(call: Call, ending: Ending, state: str, *, threads: bool) -> str:
    """Judge an interruption: it comes out, and the old store or the new one is there."""
    if ending == Ending(0, "interrupted") and state in {"old", "new"}:
        return state
    if threads and ending == Ending(0, "KeyboardInterrupt: ") and state in {"old", "new"}:
        return f"{state}, as it was interrupted before or after the save: with threads, calls are not always as many"
    if ending == Ending(0, "") and state == "new" and _is_tidying(call) and call.name == "close":
        return f"new, and not interrupted: {LOST}"
    return _blame(ending, state)


def _blame(ending: Ending, state: str) -> str:
    return f"{GUILTY}{ending.describe() or 'saved without an error'}, and then {state.removeprefix(GUILTY)}"


def find_excuse(call: Call) -> str:
    """Say why a save may succeed though this call fails; an empty text if it may not."""
    if _is_tidying(call):
        return HARMLESS_WHEN_TIDYING
    if PART.search(call.text) and call.name in TIDIES:
        return TIDIED
    return DIARY if LOG.search(call.text) else HARMLESS.get(call.name, "")


def _is_tidying(call: Call) -> bool:
    return call.committed and f"/.{STORE}.tmp-" in call.text
