"""Parts are opened when they are first used, verified once, and closed again if there are too many of them."""

import os
import pickle
import shutil
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import storage
from storage import CorruptStoreError, ReaderClosedError
from storage.dataset import files, pool, writer
from storage.dataset.manifest import Manifest, Part
from storage.dataset.opening import LOCAL, Lazy
from storage.dataset.pool import PartReader
from storage.dataset.reading import find_earlier
from tests.faults.children import Ending, run_child
from tests.support.backends import need_backend
from tests.support.datasets import find_beside, find_part, flip_bit, write_format1
from tests.support.image_sets import assert_same, make_set
from tests.support.open_files import count_open

PARTS, EACH = 6, 5
COUNT = PARTS * EACH
IMAGES, LABELS = make_set(COUNT, 5, 7)
HEADER = 128  # bytes of a .npy before its pixels


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Save thirty images in six parts of npy."""
    monkeypatch.setattr(writer, "PART", EACH * IMAGES[0].nbytes)
    storage.save(tmp_path / "set", [IMAGES], LABELS, "npy")
    return tmp_path / "set"


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let two parts be open at once."""
    monkeypatch.setattr(pool, "MAX_OPEN", 2)


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """List the parts of which a file's structure is hashed."""
    parts: list[str] = []
    check_file = files.check_file

    def check(folder: Path, part: str, *arguments: object) -> None:
        parts.append(part[: len("part-00000")])
        check_file(folder, part, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("storage.dataset.opening.check_file", check)
    return parts


def test_what_there_is_about_parts_is_a_mapping_that_is_read_when_it_is_asked_for() -> None:
    read: list[int] = []
    mapping = Lazy(3, read.append)
    mapping[1], mapping[1]
    assert (len(mapping), list(mapping), 3 in mapping, read) == (3, [0, 1, 2], False, [1])


def test_no_part_is_opened_before_it_is_used(saved: Path, checked: list[str]) -> None:
    with storage.open(saved) as reader:
        assert (len(reader), count_open(saved), checked) == (COUNT, 1, []), "only the folder is open"
        assert_same(reader[2 * EACH], (IMAGES[2 * EACH], LABELS[2 * EACH]))
        assert set(checked) == {"part-00002"}


def test_damage_is_found_when_its_part_is_first_used_and_others_are_read(saved: Path) -> None:
    flip_bit(find_part(saved, 1) / "images.npy", 9)
    with storage.open(saved) as reader:
        for _ in range(2):
            assert_same(reader.read(range(EACH)), (IMAGES[:EACH], LABELS[:EACH]))
            with pytest.raises(CorruptStoreError, match=r"set: part-00001-\w+/images\.npy is damaged outside"):
                reader.read([0, EACH])
            with pytest.raises(CorruptStoreError, match="part-00001"):
                reader[EACH]
    assert len(storage.check(saved).files) == 1


@pytest.mark.parametrize("suffix", ["", ".json", ".checksums"])
def test_a_part_that_is_missing_is_found_when_the_dataset_is_opened(suffix: str, saved: Path) -> None:
    place = find_beside(saved, suffix[1:], 4) if suffix else find_part(saved, 4)
    shutil.move(place, saved.parent / "elsewhere")
    for read in (storage.open, storage.load):
        with pytest.raises(CorruptStoreError, match=rf"set: part-00004-\w+{suffix} is missing"):
            read(saved)
    if suffix == ".checksums":
        assert_same(storage.load(saved, verify=False), (IMAGES, LABELS))


@pytest.mark.parametrize("name", ["part-00004", "checksums"])
def test_a_part_of_format_1_that_is_missing_is_found_when_the_dataset_is_opened(name: str, saved: Path) -> None:
    write_format1(saved)
    shutil.move(saved / name, saved.parent / "elsewhere")
    with pytest.raises(CorruptStoreError, match=f"set: {name} is missing"):
        storage.open(saved)


@need_backend("hdf5")
@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("layout", ["npy", "hdf5"])
def test_few_files_are_open_however_many_parts_are_read(layout: str, saved: Path) -> None:
    storage.save(saved, [IMAGES], LABELS, layout, overwrite=True)
    order = np.random.default_rng(0).permutation(COUNT)
    with storage.open(saved) as reader:
        for index in order.tolist():
            assert_same(reader[index], (IMAGES[index], LABELS[index]))
            assert count_open(saved) <= 1 + 2 * 3, "of two parts, and the folder"
        assert_same(reader.read(order), (IMAGES[order], LABELS[order]))
        assert_same(reader.read(range(COUNT)), (IMAGES, LABELS))
    assert not count_open(saved)


@pytest.mark.usefixtures("few")
def test_a_part_that_is_opened_again_is_verified_again_only_if_its_files_changed(
    saved: Path, checked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with storage.open(saved) as reader:
        for _ in range(2):
            for index in range(0, COUNT, EACH):
                reader[index]
        assert sorted(set(checked)) == sorted(f"part-{number:05}" for number in range(PARTS))
        assert len(checked) == len(set(checked)) * 2, "of images and labels, once"
        hashed: list[int] = []
        monkeypatch.setattr(pool, "hash_record", lambda *_: hashed.append(1))
        reader[0]
        assert not hashed
        monkeypatch.undo()
        for number in (1, 2):
            reader[number * EACH]
        flip_bit(find_part(saved) / "images.npy", HEADER)
        with pytest.raises(CorruptStoreError, match="record 0: it is damaged"):
            reader[0]


@pytest.mark.usefixtures("few")
def test_a_file_that_is_missing_is_found_among_many_parts(saved: Path) -> None:
    (find_part(saved, 1) / "images.npy").unlink()
    with storage.open(saved) as reader, pytest.raises(CorruptStoreError, match=r"part-00001-\w+/images.npy is missing"):
        reader[EACH]


def test_threads_share_few_open_parts(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "MAX_OPEN", 1)
    with storage.open(saved) as reader, ThreadPoolExecutor(4) as threads:

        def read(seed: int) -> None:
            for index in np.random.default_rng(seed).permutation(COUNT).tolist():
                assert_same(reader[index], (IMAGES[index], LABELS[index]))

        list(threads.map(read, range(8)))


def test_a_part_is_opened_once_if_several_threads_want_it(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    open_reader = storage.BACKENDS["npy"].open_reader

    def open_slowly(store: Path) -> storage.Reader:
        opened.append(store)
        os.sched_yield()
        return open_reader(store)

    monkeypatch.setattr(storage.BACKENDS["npy"], "open_reader", open_slowly)
    with storage.open(saved) as reader, ThreadPoolExecutor(8) as threads:
        list(threads.map(reader.__getitem__, range(COUNT)))
    assert len(opened) == PARTS


@pytest.mark.usefixtures("few")
def test_a_forked_child_opens_other_parts_than_its_parent(saved: Path) -> None:
    def read() -> str:
        assert_same(reader.read(range(COUNT)), (IMAGES, LABELS))
        return ""

    with storage.open(saved) as reader:
        reader.read(range(2 * EACH))
        assert run_child(read) == Ending(0, "")
        assert not read()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_pickled_reader_finds_its_images_among_those_that_were_appended(count: int, tmp_path: Path) -> None:
    storage.save(tmp_path / "set", IMAGES[:3], LABELS[:3], "npy")
    for index in range(3, 2 + count):
        storage.append(tmp_path / "set", IMAGES[index : index + 1], LABELS[index : index + 1])
    with storage.open(tmp_path / "set") as reader:
        pickled = pickle.dumps(reader)
    storage.append(tmp_path / "set", IMAGES[9:], LABELS[9:])
    with pickle.loads(pickled) as reader:  # noqa: S301 - written a few lines above
        assert_same(reader.read(range(len(reader))), (IMAGES[: 2 + count], LABELS[: 2 + count]))


def test_an_earlier_dataset_is_the_longest_with_its_checksum() -> None:
    parts = tuple(Part(f"part-{number}", 1, records, "") for number, records in enumerate(["1", "2", "0", "f" * 16]))
    manifest = Manifest("npy", parts=parts)
    found = [find_earlier(manifest, f"{number:016x}") for number in (1, 2, 3, 4)]
    assert [each and len(each.parts) for each in found] == [1, 4, 3, None]


def test_no_thread_changes_what_is_open_while_another_looks_at_it(saved: Path) -> None:
    with storage.open(saved) as reader:
        parts = reader._pool  # noqa: SLF001 - what threads share

        class Guarded(OrderedDict[int, object]):
            def __setitem__(self, number: int, part: object) -> None:
                assert parts._changed._is_owned(), "another thread may be looking for a part to close"  # type: ignore[attr-defined]  # noqa: SLF001
                super().__setitem__(number, part)

        parts._open = Guarded()  # type: ignore[assignment]  # noqa: SLF001 - likewise
        assert_same(reader[0], (IMAGES[0], LABELS[0]))


def test_nothing_is_fetched_for_a_part_that_is_on_the_disk(saved: Path) -> None:
    with storage.open(saved) as reader:
        part = reader._pool._take(1)  # noqa: SLF001 - what an epoch asks
        part.fetch(None, whole_requests=True)
        assert LOCAL.fits(1 << 60), "what is on the disk needs no cache"
        assert_same(part.read(np.arange(EACH)), (IMAGES[EACH : 2 * EACH], LABELS[EACH : 2 * EACH]))


def test_a_part_that_is_opened_while_the_reader_is_closed_is_closed_too(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = storage.open(saved)
    parts, opened = reader._pool, []  # noqa: SLF001 - what threads share
    open_part = parts._open_part  # noqa: SLF001 - likewise

    def open_late(number: int) -> PartReader:
        opened.append(open_part(number))
        reader.close()
        return opened[0]

    monkeypatch.setattr(parts, "_open_part", open_late)
    with pytest.raises(ReaderClosedError):
        parts.take(1)
    assert count_open(saved) == 0, "the files of the part are open"
    with pytest.raises(ReaderClosedError):
        opened[0].reader.read([0])
