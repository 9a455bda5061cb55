"""The corruption that a format notices by itself: plain stores, written without `storage.save`, are damaged and read.

A child reads one damaged copy after the other until one of them ends it; another child goes on behind that one.
"""

import json
import shutil
import signal
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fixtures.standin import StandIn
from storage import BACKENDS, Backend, Encoded, StorageError
from storage.contract import Kind
from storage.reader import read_stored
from tests.faults import damages
from tests.faults.children import LONG, Child
from tests.faults.damages import Damage, Draw
from tests.faults.findings import GUILTY, Findings
from tests.faults.judge import STORE, ImageSet, is_same, take
from tests.faults.mixups import MIXUPS, make_others
from tests.support.encoded_sets import make_files
from tests.support.memory import Peak, limit_addresses, measure_files

Order: TypeAlias = NDArray[np.intp]

SEED = 600
COUNT = 100  # images
PATIENCE = 20  # seconds that a read may take

# Backends that damage may kill, and why; any other that is killed is guilty.
MORTAL: Mapping[str, str] = dict.fromkeys(
    ("lmdb", "lmdb_packed"),
    "LMDB believes the pages of its tree, and a wrong one leads past the end of the map: decision 39",
)

# Backends that damage may have take too much memory, and why.
GREEDY: Mapping[str, str] = {"tiledb": "the first number of a tile of pixels says how many chunks TileDB allocates"}
EXCESS = "too much memory"

DAMAGES: Mapping[str, Damage] = {
    **{name: damages.DAMAGES[name] for name in ("bit flip", "truncation", "4 KiB zeroed")},
    **MIXUPS,
}


def damage_plain(backend: str, folder: Path, *, cases: int, kind: Kind = "pixels") -> dict[str, Findings]:
    """Damage a plain store again and again, and read all of it each time in every way."""
    expected = _make_set(kind)
    store = BACKENDS[backend].store_many
    store(folder / "plain", *expected)
    make_others(folder / "others", COUNT, lambda path, image_set: store(path, *image_set), kind)
    todo = [(damage, number) for damage in DAMAGES for number in range(cases)]
    outcomes: list[str] = []
    while len(outcomes) < len(todo):
        log = folder / f"{len(outcomes)}.json"
        child = Child(partial(_read_each, backend, folder, expected, todo[len(outcomes) :], log))
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


def _make_set(kind: Kind) -> ImageSet:
    if kind == "encoded":
        return make_files(COUNT)
    images, labels = np.empty((COUNT, 32, 32, 3), np.uint8), np.empty(COUNT, np.int64)
    StandIn().fill(images, labels)
    return images, labels


def _read_each(backend: str, folder: Path, expected: ImageSet, todo: Sequence[tuple[str, int]], log: Path) -> str:
    """Be the child: damage and read one copy after the other; what came of each is a line of `log`."""
    warnings.simplefilter("ignore")  # a warning is no refusal
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    limit_addresses()
    with log.open("w", encoding="utf-8", buffering=1) as told:
        for damage, number in todo:
            shutil.rmtree(folder / STORE, ignore_errors=True)
            shutil.copytree(folder / "plain", folder / STORE)
            draw = np.random.default_rng([SEED, list(DAMAGES).index(damage), number])
            DAMAGES[damage](folder / STORE, folder / "others", draw)
            signal.alarm(PATIENCE)
            outcome = _read_within_bounds(backend, folder / STORE, expected, draw)
            signal.alarm(0)
            told.write(f"{json.dumps(outcome)}\n")
    return ""


def _read_within_bounds(backend: str, store: Path, expected: ImageSet, draw: Draw) -> str:
    """Read a store in every way; wrong pixels come before a refusal, and nothing before a fault of ours."""
    size, order = measure_files(store), draw.permutation(COUNT)
    outcomes = {_read(partial(read, BACKENDS[backend], store, order), expected, size) for read in READS}
    guilty = sorted(outcome for outcome in outcomes if outcome.startswith((GUILTY, EXCESS)))
    if guilty and guilty[0].startswith(EXCESS) and backend not in GREEDY:
        return f"{GUILTY}{guilty[0]}"
    return next(iter([*guilty, *(kind for kind in ("wrong", "refused") if kind in outcomes)]), "harmless")


def _read(read: Callable[[], tuple[ImageSet, Order]], expected: ImageSet, size: int) -> str:
    peak = Peak()
    try:
        found, order = read()
    except StorageError:
        outcome = "refused"
    except BaseException as error:  # noqa: BLE001 - whatever else comes out of a backend is to be named
        return f"{GUILTY}{type(error).__name__}: {error}"
    else:
        outcome = "harmless" if is_same(found, take(expected, order)) else "wrong"
    excess = peak.describe_excess(size)
    return f"{EXCESS}, {excess}" if excess else outcome


def _read_all(module: Backend, store: Path, _: Order) -> tuple[ImageSet, Order]:
    return module.read_many(store), np.arange(COUNT)


def _read_batch(module: Backend, store: Path, order: Order) -> tuple[ImageSet, Order]:
    with module.open_reader(store) as reader:
        return read_stored(reader, order), order


def _read_one(module: Backend, store: Path, order: Order) -> tuple[ImageSet, Order]:
    """Read an image through a reader, and its label with all others."""
    with module.open_reader(store) as reader:
        if reader.kind == "encoded":
            images: Any = reader.read_encoded(order[1:2])[0]
        else:
            images = reader[int(order[1])][0][np.newaxis]
        return (images, reader.read_labels()[order[1:2]]), order[1:2]


def _read_single(module: Backend, store: Path, order: Order) -> tuple[ImageSet, Order]:
    with suppress(StorageError):
        module.find_pixels(store)
    image, label = module.read_single(store, int(order[0]))
    images = image[np.newaxis] if isinstance(image, np.ndarray) else Encoded.join([image])
    return (images, np.array([label])), order[:1]


READS = (_read_all, _read_batch, _read_one, _read_single)


def _judge_death(backend: str, number: int) -> str:
    if number == signal.SIGALRM:
        return f"{GUILTY}hung for {PATIENCE} seconds"
    name = signal.Signals(number).name
    return f"killed, by {name}" if backend in MORTAL else f"{GUILTY}killed by {name}"
