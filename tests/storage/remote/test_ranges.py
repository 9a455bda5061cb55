"""A store in the cache is filled as it is read: each byte is fetched once, by whichever process needs it first."""

import errno
import fcntl
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage import BACKENDS, Encoded, StorageError
from storage.dataset.details import Details, Structure
from storage.dataset.files import check_file, find_structure
from storage.reader import read_stored
from storage.remote import ranges
from storage.remote.ranges import BLOCK, GAP, REQUEST, Piece, SparseStore
from tests.faults.children import Ending, run_child
from tests.faults.mounts import find_obstacle, mount_memory
from tests.support.backends import need_backend
from tests.support.image_sets import make_set

pytestmark = need_backend("npy")

COUNT = 200
LABELS = np.arange(COUNT)
SETS: dict[str, Any] = {
    "pixels": make_set(COUNT, 80, 50)[0],  # 12,000 bytes each
    "files": Encoded.join([np.random.default_rng(number).bytes(100 * number) for number in range(COUNT)]),
}
TIMEOUT = 20.0  # seconds


class Server:
    """Answers requests for ranges of the files of a folder, and remembers them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests: list[tuple[int, int]] = []
        self.before: Callable[[], None] = lambda: None

    def fetch(self, pieces: Iterable[Piece]) -> None:
        """Give each piece its content."""
        for name, (start, end), size, keep in pieces:
            self.before()
            content = (self.folder / name).read_bytes()
            assert len(content) == size
            self.requests.append((start, end))
            keep(memoryview(content)[start:end])

    def take_sizes(self) -> list[int]:
        """Return how many bytes each request asked for, and forget them."""
        sizes = [end - start for start, end in self.requests]
        self.requests.clear()
        return sizes


class Example:
    """A store on the server, and copies of it that are filled as they are read."""

    def __init__(self, folder: Path, backend: str, images: Any, labels: Any = LABELS) -> None:  # noqa: ANN401 - arrays
        self.module, self.images, self.server, self.copy = BACKENDS[backend], images, Server(folder), folder / "copy"
        self.module.store_many(folder / "part", images, labels)
        sizes = {path.name: path.stat().st_size for path in (folder / "part").iterdir()}
        structure = find_structure(folder / "part", self.module.find_pixels(folder / "part"), sizes)
        self.details = Details(sizes, structure, {})
        self.size = sum(sizes.values())

    def open(self) -> SparseStore:
        """Make a copy that can be opened."""
        sparse = SparseStore(self.copy, "part", self.details, self.server.fetch)
        sparse.make()
        sparse.fetch_structure()
        for name in self.details.structure:
            check_file(self.copy.parent, self.copy.name, self.details, name)
        sparse.fetch_edges(self.module.find_records(self.copy))
        return sparse

    def check(self, positions: list[int]) -> None:
        """Check what the backend reads from the copy."""
        with self.module.open_reader(self.copy) as reader:
            found, labels = read_stored(reader, positions)
        assert labels.tolist() == positions
        expected = self.images.take(positions) if isinstance(self.images, Encoded) else self.images[positions]
        assert [bytes(image) for image in found] == [bytes(image) for image in expected]


@pytest.fixture(params=SETS)
def images(request: pytest.FixtureRequest) -> Any:  # noqa: ANN401 - an array, or Encoded
    return SETS[request.param]


@pytest.fixture
def pixels(tmp_path: Path) -> Example:
    return Example(tmp_path, "npy", SETS["pixels"])


@pytest.mark.parametrize("name", [name for name in ("npy", "hdf5", "tar", "feather") if name in BACKENDS])
def test_some_images_are_read_without_the_others(name: str, images: Any, tmp_path: Path) -> None:  # noqa: ANN401
    example = Example(tmp_path, name, images)
    sparse = example.open()
    with example.module.open_reader(example.copy) as reader:  # its map is older than what it will read
        for positions in ([5, 3], [7, 190, 7], [0, COUNT - 1]):
            sparse.fetch_images(np.array(positions))
            example.check(positions)
            found, _ = read_stored(reader, positions)
            assert bytes(found[0]) == bytes(images[positions[0]])
    assert sum(example.server.take_sizes()) < example.size / 4


@need_backend("sqlite")
def test_a_store_whose_images_the_backend_cannot_find_is_fetched_whole(tmp_path: Path) -> None:
    example = Example(tmp_path, "sqlite", SETS["pixels"])
    sparse = example.open()
    assert sparse.is_complete
    example.check(list(range(COUNT)))
    example.server.take_sizes()
    sparse.forget(np.array([3]))
    sparse.fetch_images(np.array([3]))
    assert sum(example.server.take_sizes()) == example.size


def test_all_of_a_store_is_fetched_in_large_requests(tmp_path: Path) -> None:
    example = Example(tmp_path, "npy", make_set(900, 80, 80)[0], np.arange(900))
    sparse = example.open()
    example.server.take_sizes()
    sparse.fetch_all()
    sizes = example.server.take_sizes()
    assert max(sizes) == REQUEST
    assert len(sizes) <= example.size // REQUEST + 2
    assert (example.copy / "images.npy").read_bytes() == (tmp_path / "part" / "images.npy").read_bytes()
    sparse.fetch_all()
    assert sparse.is_complete
    assert not example.server.requests


def test_what_is_there_is_not_fetched_again_by_another_process(pixels: Example) -> None:
    positions = np.array([5, 90])
    pixels.open().fetch_images(positions)
    assert pixels.server.take_sizes()
    other = pixels.open()
    other.fetch_images(positions)
    assert not pixels.server.requests
    other.fetch_all()
    assert pixels.open().is_complete


def test_small_gaps_are_read_and_large_ones_are_not(pixels: Example) -> None:
    size = SETS["pixels"][0].nbytes
    near, far = GAP // size - 1, GAP // size + 4
    sparse = pixels.open()
    pixels.server.take_sizes()
    sparse.fetch_images(np.array([10, 10 + near]))
    assert len(pixels.server.take_sizes()) == 1
    sparse.fetch_images(np.array([60, 60 + far]))
    assert len(pixels.server.take_sizes()) == 2


def test_of_what_will_all_be_needed_whole_requests_are_fetched(tmp_path: Path) -> None:
    example = Example(tmp_path, "npy", make_set(900, 80, 80)[0], np.arange(900))
    sparse = example.open()
    example.server.take_sizes()
    sparse.fetch_images(np.array([450]), whole_requests=True)
    assert REQUEST / 2 < sum(example.server.take_sizes()) <= 2 * REQUEST
    sparse.fetch_images(np.array([451]), whole_requests=True)
    assert not example.server.requests


def test_what_is_forgotten_is_fetched_once_more(pixels: Example) -> None:
    sparse = pixels.open()
    sparse.fetch_all()
    with (pixels.copy / "images.npy").open("r+b") as file:
        file.seek(128 + 7 * 12_000)
        file.write(bytes(12_000))
    pixels.server.take_sizes()
    sparse.forget(np.array([7]))
    assert not sparse.is_complete
    sparse.fetch_images(np.array([7, 8]))
    assert sum(pixels.server.take_sizes()) <= 12_000 + 2 * BLOCK
    pixels.check([7])
    sparse.forget()
    sparse.fetch_all()
    assert sum(pixels.server.take_sizes()) == pixels.size


@pytest.mark.parametrize("damage", [os.unlink, lambda path: os.truncate(path, 5)])
def test_a_file_that_is_not_the_right_one_is_made_anew(pixels: Example, damage: Callable[[Path], None]) -> None:
    pixels.open().fetch_all()
    damage(pixels.copy / "images.npy")
    sparse = pixels.open()
    assert not sparse.is_complete
    sparse.fetch_images(np.array([3]))
    pixels.check([3])


def test_what_a_reader_has_mapped_stays_when_the_part_becomes_smaller(tmp_path: Path) -> None:
    def make(size: int) -> SparseStore:
        sparse = SparseStore(tmp_path / "copy", "part", Details({"images.npy": size}, {}, {}), lambda _: None)
        sparse.make()
        return sparse

    def read() -> str:
        first = make(64 << 20)
        images = np.memmap(tmp_path / "copy" / "images.npy", np.uint8, "r")
        make(5)
        first.forget()
        return f"{first.is_complete} {images.any()}"

    assert run_child(read) == Ending(0, "False False")


def test_a_map_that_another_process_deletes_meanwhile_is_not_used(
    pixels: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks, flock = pixels.copy.with_name("copy.blocks"), fcntl.flock

    def delete_and_lock(file: Any, how: int) -> None:  # noqa: ANN401 - as flock
        monkeypatch.setattr("storage.remote.ranges.fcntl.flock", flock)
        blocks.unlink()
        flock(file, how)

    monkeypatch.setattr("storage.remote.ranges.fcntl.flock", delete_and_lock)
    pixels.open().fetch_all()
    assert pixels.open().is_complete


def test_a_failed_request_is_repeated_when_the_images_are_read_again(pixels: Example) -> None:
    sparse = pixels.open()

    def fail() -> None:
        raise StorageError("no answer")

    pixels.server.before = fail
    with pytest.raises(StorageError, match="no answer"):
        sparse.fetch_images(np.array([3]))
    pixels.server.before = lambda: None
    sparse.fetch_images(np.array([3]))
    pixels.check([3])


def test_a_full_volume_is_an_error(pixels: Example, tmp_path: Path) -> None:
    if obstacle := find_obstacle():
        pytest.skip(obstacle)
    volume = tmp_path / "volume"
    volume.mkdir()

    def fill() -> str:
        mount_memory(volume, BLOCK)
        (volume / "full").write_bytes(bytes(BLOCK))
        pixels.copy = volume / "copy"
        with pytest.raises(StorageError, match="No space left on device"):
            pixels.open()
        return "refused"

    assert run_child(fill) == Ending(0, "refused")


def test_threads_that_need_the_same_images_fetch_them_once(pixels: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    sparse, reached, released, waiting = pixels.open(), threading.Event(), threading.Event(), threading.Semaphore(0)
    pixels.server.take_sizes()
    wait_for_change = sparse._changed.wait  # noqa: SLF001

    def count_and_wait() -> bool:
        waiting.release()
        return wait_for_change()

    def wait() -> None:
        reached.set()
        assert released.wait(TIMEOUT)

    pixels.server.before = wait
    monkeypatch.setattr(sparse._changed, "wait", count_and_wait)  # noqa: SLF001
    threads = [threading.Thread(target=sparse.fetch_images, args=(np.array([3, 150]),)) for _ in range(3)]
    threads[0].start()
    assert reached.wait(TIMEOUT)
    for thread in threads[1:]:
        thread.start()
        assert waiting.acquire(timeout=TIMEOUT)
    released.set()
    for thread in threads:
        thread.join(TIMEOUT)
        assert not thread.is_alive()
    assert len(pixels.server.take_sizes()) == 2


def test_a_store_of_empty_files_has_nothing_to_fetch(tmp_path: Path) -> None:
    example = Example(tmp_path, "npy", Encoded.join([b"", b""]), np.arange(2))
    sparse = example.open()
    example.check([0, 1])
    sparse.fetch_images(np.array([1, 0]))
    assert sparse.is_complete


def test_the_files_of_a_part_are_not_searched_for_one_by_one(tmp_path: Path) -> None:
    compared = []

    class Name(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            compared.append(other)
            return str(self) == other

    names = [Name(f"{number}.png") for number in range(50)]
    details = Details(dict.fromkeys(names, 0), dict.fromkeys(names, Structure(((0, 0),), "")), {})
    sparse = SparseStore(tmp_path / "copy", "part", details, lambda _: None)
    sparse.make()
    sparse.fetch_structure()
    assert len(compared) <= len(names)


class Others:
    """Stores of the same copy in threads, each of which has locks of its own, as those of processes have."""

    def __init__(self, example: Example) -> None:
        self.example, self.threads, self.errors = example, [], []  # type: ignore[var-annotated]
        self.reached, self.released = threading.Event(), threading.Event()
        example.open()
        example.server.take_sizes()

    def hold(self) -> None:
        """Have the server answer nothing until it is released."""
        self.reached.set()
        assert self.released.wait(TIMEOUT)

    def start(self, *positions: int) -> None:
        """Fetch images."""

        def run(sparse: SparseStore) -> None:
            try:
                sparse.fetch_images(np.array(positions))
            except StorageError as error:
                self.errors.append(error.problem)

        sparse = self.example.open()
        self.threads.append(threading.Thread(target=run, args=(sparse,)))
        self.threads[-1].start()

    def finish(self) -> None:
        """Wait for all of them."""
        self.released.set()
        for thread in self.threads:
            thread.join(TIMEOUT)
            assert not thread.is_alive()


def test_what_another_process_is_fetching_is_waited_for(pixels: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    others, waits = Others(pixels), threading.Event()
    pixels.server.before = others.hold
    others.start(3, 150)
    assert others.reached.wait(TIMEOUT)
    pixels.server.before = lambda: None
    monkeypatch.setattr("storage.remote.ranges.time.sleep", lambda _: waits.set())
    others.start(3, 100, 150)
    assert waits.wait(TIMEOUT)
    assert len(pixels.server.requests) == 1  # for what nobody is fetching
    others.finish()
    assert len(pixels.server.take_sizes()) == 3
    pixels.check([3, 100, 150])


def test_what_another_process_failed_to_fetch_is_fetched(pixels: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    others, waits = Others(pixels), threading.Event()

    def fail() -> None:
        others.hold()
        raise StorageError("no answer")

    pixels.server.before = fail
    others.start(3)
    assert others.reached.wait(TIMEOUT)
    pixels.server.before = lambda: None
    monkeypatch.setattr("storage.remote.ranges.time.sleep", lambda _: waits.set())
    others.start(3)
    assert waits.wait(TIMEOUT)
    others.finish()
    assert (others.errors, len(pixels.server.take_sizes())) == (["no answer"], 1)
    pixels.check([3])


def refuse(*_: object) -> None:
    raise OSError(errno.ENOLCK, "no locks")


@pytest.mark.parametrize(("name", "value"), [("ranges.PATIENCE", -1.0), ("ranges.fcntl.fcntl", refuse)])
def test_a_process_that_takes_too_long_or_cannot_lock_is_not_waited_for(
    pixels: Example,
    name: str,
    value: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    others = Others(pixels)
    monkeypatch.setattr(f"storage.remote.{name}", value)
    pixels.server.before = others.hold
    others.start(3)
    assert others.reached.wait(TIMEOUT)
    pixels.server.before = lambda: None
    pixels.open().fetch_images(np.array([3]))
    pixels.check([3])
    others.finish()
    assert len(pixels.server.take_sizes()) == 2


def test_the_sizes_of_a_large_part_are_confirmed_once(pixels: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = pixels.copy, "part", pixels.details, pixels.server.fetch
    ranges.check_sizes(*arguments)
    assert not pixels.server.requests
    monkeypatch.setattr(ranges, "BELIEVED", pixels.size // 2)
    ranges.check_sizes(*arguments)
    assert pixels.server.take_sizes() == [1]  # the images; the labels are few
    pixels.open()
    pixels.server.take_sizes()
    ranges.check_sizes(*arguments)
    assert not pixels.server.requests
