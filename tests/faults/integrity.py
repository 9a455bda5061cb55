"""The corruption that a format notices by itself: plain stores, written without `storage.save`, are damaged and read.

A child reads one damaged copy after the other until one of them ends it; another child goes on behind that one.
"""

import json
import shutil
import signal
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from fixtures.standin import StandIn
from storage import BACKENDS, StorageError
from tests.faults.children import LONG, Child
from tests.faults.damages import PAGE, Draw
from tests.faults.findings import GUILTY, Findings
from tests.faults.judge import STORE, ImageSet, is_same

SEED = 600
COUNT = 100  # images
PATIENCE = 20  # seconds that a read may take

# Backends that damage may kill, and why; any other that is killed is guilty.
MORTAL: Mapping[str, str] = dict.fromkeys(
    ("lmdb", "lmdb_packed"),
    "LMDB believes the pages of its tree, and a wrong one leads past the end of the map: decision 39",
)


def flip_bit(files: Sequence[Path], draw: Draw) -> None:
    """Flip one bit of all that there are."""
    ends = np.cumsum([path.stat().st_size for path in files])
    place = int(draw.integers(ends[-1]))
    number = int(np.searchsorted(ends, place, side="right"))
    content = bytearray(files[number].read_bytes())
    content[place - int(ends[number])] ^= 1 << int(draw.integers(8))
    files[number].write_bytes(content)


def truncate(files: Sequence[Path], draw: Draw) -> None:
    """Cut a file short."""
    path = files[int(draw.integers(len(files)))]
    with path.open("r+b") as file:
        file.truncate(int(draw.integers(path.stat().st_size)))


def zero_page(files: Sequence[Path], draw: Draw) -> None:
    """Overwrite a page of a file that has something in it with zeros."""
    pages = [
        (path, start)
        for path in files
        for content in [path.read_bytes()]
        for start in range(0, len(content), PAGE)
        if any(content[start : start + PAGE])
    ]
    path, start = pages[draw.integers(len(pages))]
    with path.open("r+b") as file:
        file.seek(start)
        file.write(bytes(min(PAGE, path.stat().st_size - start)))


DAMAGES: Mapping[str, Callable[[Sequence[Path], Draw], None]] = {
    "bit flip": flip_bit,
    "truncation": truncate,
    "4 KiB zeroed": zero_page,
}


def damage_plain(backend: str, folder: Path, *, cases: int) -> dict[str, Findings]:
    """Damage a plain store again and again, and read all of it each time."""
    images, labels = np.empty((COUNT, 32, 32, 3), np.uint8), np.empty(COUNT, np.int64)
    StandIn().fill(images, labels)
    BACKENDS[backend].store_many(folder / "plain", images, labels)
    todo = [(damage, number) for damage in DAMAGES for number in range(cases)]
    outcomes: list[str] = []
    while len(outcomes) < len(todo):
        log = folder / f"{len(outcomes)}.json"
        child = Child(partial(_read_each, backend, folder, (images, labels), todo[len(outcomes) :], log))
        child.release()
        ending = child.wait(LONG)
        outcomes += [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        if ending.signal:
            outcomes.append(_judge_death(backend, ending.signal))
        elif ending.told:
            raise RuntimeError(f"the harness itself failed: {ending.told}")
    found: dict[str, Findings] = {damage: [] for damage in DAMAGES}
    for (damage, number), outcome in zip(todo, outcomes, strict=True):
        found[damage].append((f"{damage}, case {number} of seed {SEED}", outcome))
    return found


def _read_each(backend: str, folder: Path, expected: ImageSet, todo: Sequence[tuple[str, int]], log: Path) -> str:
    """Be the child: damage and read one copy after the other; what came of each is a line of `log`."""
    warnings.simplefilter("ignore")  # a warning is no refusal
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    with log.open("w", encoding="utf-8", buffering=1) as told:
        for damage, number in todo:
            shutil.rmtree(folder / STORE, ignore_errors=True)
            shutil.copytree(folder / "plain", folder / STORE)
            files = sorted(path for path in (folder / STORE).rglob("*") if path.is_file() and path.stat().st_size)
            DAMAGES[damage](files, np.random.default_rng([SEED, list(DAMAGES).index(damage), number]))
            signal.alarm(PATIENCE)
            outcome = _read(backend, folder / STORE, expected)
            signal.alarm(0)
            told.write(f"{json.dumps(outcome)}\n")
    return ""


def _read(backend: str, store: Path, expected: ImageSet) -> str:
    try:
        found = BACKENDS[backend].read_many(store)
    except StorageError:
        return "refused"
    except BaseException as error:  # noqa: BLE001 - whatever else comes out of a backend is to be named
        return f"{GUILTY}{type(error).__name__}: {error}"
    return "harmless" if is_same(found, expected) else "wrong"


def _judge_death(backend: str, number: int) -> str:
    if number == signal.SIGALRM:
        return f"{GUILTY}hung for {PATIENCE} seconds"
    name = signal.Signals(number).name
    return f"killed, by {name}" if backend in MORTAL else f"{GUILTY}killed by {name}"
