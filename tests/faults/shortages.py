"""Shortages: files that may not grow, a disk that is full before or during a save, and one that is read-only."""

import errno
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import storage
from storage import Images
from storage.contract import Kind
from storage.reader import read_stored
from tests.faults.children import PATIENCE, run_child, spread
from tests.faults.extent import Extent
from tests.faults.findings import GUILTY, Findings
from tests.faults.judge import STATES, STORE, Sets, inspect, is_same, make_sets, prepare, save_template
from tests.faults.mounts import forbid_writing, mount_memory, resize_memory
from tests.support.full_disk import limit_file_size

COUNT = 10  # images
PAGE = 4096
ROOM = 64 << 20  # bytes of a disk that is not full
LONGER = 4 * PATIENCE  # for a child that waits for its own children, so that those say where they hang


def limit_files(backend: str, folder: Path, extent: Extent, *, kind: Kind = "pixels") -> Findings:
    """Replace a set with files that may be so many bytes long, from none to more than enough."""
    sets = make_sets(COUNT, 32, kind)
    template = save_template(folder, sets, backend)
    longest = max(path.stat().st_size for path in template.rglob("*") if path.is_file())
    step = max(64, longest // 150)
    limits = extent.choose(range(0, 2 * longest + step, step), 1)

    def run(limit: int, own: Path) -> str:
        path = prepare(own, template)
        return _judge(run_child(partial(_save_limited, path, sets, backend, limit)).describe(), path, sets, backend)

    outcomes = spread(limits, run, folder)
    return [(f"files of up to {limit} bytes", outcome) for limit, outcome in zip(limits, outcomes, strict=True)]


def fill_disk(backend: str, folder: Path, extent: Extent, *, midway: bool, kind: Kind = "pixels") -> Findings:
    """Replace a set on a disk that has so many pages free, from none to more than enough."""
    sets = make_sets(COUNT, 32, kind)
    template = save_template(folder, sets, backend)
    used = sum(-(-path.stat().st_size // PAGE) + 1 for path in template.rglob("*"))
    pages = extent.choose(range(2 * used + 8), 1)

    def run(free: int, own: Path) -> str:
        return run_child(partial(_fill, own, template, sets, backend, free * PAGE, midway), LONGER).describe()

    outcomes = spread(pages, run, folder)
    return [(f"{free} pages free", outcome) for free, outcome in zip(pages, outcomes, strict=True)]


def forbid_save(backend: str, folder: Path, *, kind: Kind) -> Findings:
    """Save to a disk that became read-only, replacing a set and anew; and read from it."""
    sets = make_sets(COUNT, 32, kind)
    template = save_template(folder, sets, backend)

    def run(name: str, own: Path) -> str:
        return run_child(partial(_forbid, own, template, sets, backend, name), LONGER).describe()

    names = [STORE, "other"]
    return list(zip(names, spread(names, run, folder), strict=True))


def _save_limited(path: Path, sets: Sets, backend: str, limit: int) -> str:
    storage.load(path)  # a library may unpack itself when it is used first
    with limit_file_size(limit):
        return _try_to_save(path, sets.new[0], sets, backend)


def _try_to_save(path: Path, images: Images | Iterator[Images], sets: Sets, backend: str) -> str:
    try:
        storage.save(path, images, sets.new[1], backend, overwrite=True)
    except storage.StoreFullError as error:
        return "full" if str(path) in str(error) else f"the message does not name the store: {error}"
    return "saved"


def _judge(saved: str, path: Path, sets: Sets, backend: str) -> str:
    state = inspect(path, sets, backend)
    if (saved, state) in {("full", "old"), ("saved", "new")}:
        return state
    return state if state not in STATES else f"{GUILTY}{saved}, and then {state}"


def _fill(own: Path, template: Path, sets: Sets, backend: str, free: int, midway: bool) -> str:  # noqa: FBT001 - a case
    mount_memory(own, ROOM)
    own = own / "disk"
    own.mkdir()
    path = prepare(own, template)

    def yield_batches() -> Iterator[Images]:
        half = COUNT // 2
        yield sets.new[0][:half]
        resize_memory(own.parent, free)
        yield sets.new[0][half:]

    if midway:
        images: Images | Iterator[Images] = yield_batches()
    else:
        images = sets.new[0]
        resize_memory(own.parent, free)
    saved = run_child(partial(_try_to_save, path, images, sets, backend)).describe()
    resize_memory(own.parent, ROOM)
    return _judge(saved, path, sets, backend)


def _forbid(own: Path, template: Path, sets: Sets, backend: str, name: str) -> str:
    mount_memory(own, ROOM)
    disk = own / "disk"
    disk.mkdir()
    path = prepare(disk, template)
    forbid_writing(own, forbidden=True)
    saved = run_child(partial(_save_forbidden, disk / name, sets, backend)).describe()
    read = run_child(partial(_read_forbidden, path, sets)).describe()
    forbid_writing(own, forbidden=False)
    if (saved, read) != ("refused", "read"):
        return f"{GUILTY}{saved}, {read}"
    return inspect(path, sets, backend)


def _save_forbidden(path: Path, sets: Sets, backend: str) -> str:
    try:
        storage.save(path, *sets.new, backend, overwrite=True)
    except storage.StorageError as error:
        named = str(path) in str(error) and os.strerror(errno.EROFS) in str(error)
        return "refused" if named else f"the message does not say why: {error}"
    return "saved"


def _read_forbidden(path: Path, sets: Sets) -> str:
    with storage.open(path) as reader:
        read = read_stored(reader, range(len(reader)))
    whole = storage.check(path).is_whole
    return "read" if whole and is_same(read, sets.old) and is_same(storage.load(path), sets.old) else "read wrongly"
