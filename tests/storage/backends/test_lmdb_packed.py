"""LMDB with many images per record: records of any size, anywhere in the map, and views of them."""

import struct
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

import storage
from storage import Images
from tests.support.backends import take_backend
from tests.support.encoded_sets import check_file_reads, make_files
from tests.support.foreign import Case, Change, both, cut, store_files
from tests.support.image_sets import assert_same, check_reads, make_set

lmdb_packed = take_backend("lmdb_packed")

from tests.storage.backends.test_lmdb import change_records, make_key, read_records  # noqa: E402 - it needs lmdb

IMAGES, LABELS = make_set(50)[0], np.arange(50)
TEN = make_set(10)[0]
RECORD = TEN[:4].tobytes()


def repack(records: dict[bytes, bytes | None], *layout: int) -> Change:
    packed: dict[bytes, bytes | None] = {
        make_key(number): TEN[4 * number : 4 * number + 4].tobytes() for number in range(3)
    }
    layout = layout or (10, 32, 32, 4)
    return lambda store: change_records(
        store, {**packed, b"layout": struct.pack(f"<{len(layout)}Q", *layout), **records}
    )


FILES, FILE_LABELS = make_files(10)


def spoil_offsets(offsets: bytes | None) -> Change:
    return both(store_files(lmdb_packed), lambda store: change_records(store, {b"file_offsets": offsets}))


def move_offset(place: int, offset: int) -> Change:
    offsets = FILES.offsets.copy()
    offsets[place] = offset
    return spoil_offsets(offsets.tobytes())


LAYOUTS = {
    "five numbers": (10, 32, 32, 4, 0),
    "one image more": (11, 32, 32, 4),
    "one image fewer": (9, 32, 32, 4),
    "far more images": (10**12, 32, 32, 4),
    "no image": (0, 32, 32, 4),
    "larger images": (10, 10**6, 10**6, 4),
    "no height": (10, 0, 32, 4),
    "no image per record": (10, 32, 32, 0),
    "five images per record": (10, 32, 32, 5),
    "one record": (10, 32, 32, 10),
    "64 bits of images per record": (10, 32, 32, 2**64 - 1),
}
RECORDS: dict[str, dict[bytes, bytes | None]] = {
    "no layout": {b"layout": None},
    "JSON as the layout": {b"layout": b"{}"},
    "no labels": {b"labels": b""},
    "fewer labels": {b"labels": b"12345678"},
    "the first record too short": {make_key(0): RECORD[:-1]},
    "the first record too long": {make_key(0): RECORD + b"1"},
    "the last record too short": {make_key(2): RECORD[: 2 * 3072 - 1]},
    "the last record too long": {make_key(2): RECORD},
    "the last record missing": {make_key(2): None},
    "a record under another key": {make_key(1): None, make_key(3): RECORD},
    "a record too many": {make_key(3): RECORD},
}
FOREIGN = {
    "a layout of single records": Case(repack({}, 10, 32, 32), "another backend"),
    **{name: Case(repack({}, *layout)) for name, layout in LAYOUTS.items()},
    **{name: Case(repack(records)) for name, records in RECORDS.items()},
    "no offsets": Case(spoil_offsets(None)),
    "offsets of 12 bytes": Case(spoil_offsets(bytes(12)), "12 bytes of offsets for 10 files"),
    "an offset that goes down": Case(move_offset(5, 0)),
    "an offset of 63 bits": Case(move_offset(5, 2**63 - 1)),
    "files in records of nothing": Case(
        both(
            store_files(lmdb_packed),
            lambda store: change_records(store, {b"layout": struct.pack("<4Q", 10, FILES.content.nbytes, 0, 0)}),
        )
    ),
    **{f"cut to {size} bytes": Case(cut("data.mdb", size)) for size in (0, 4096, 8192, 12_288, -4096, -1)},
}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(lmdb_packed, "RECORD", 8 * IMAGES[0].nbytes)
    lmdb_packed.store_many(tmp_path, IMAGES, LABELS)
    return tmp_path


def test_lmdb_itself_reads_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmdb_packed, "RECORD", 1000)
    lmdb_packed.store_many(tmp_path, FILES, np.arange(10))
    records = read_records(tmp_path)
    content = b"".join(value for key, value in records.items() if key < b"file_offsets")
    offsets = np.frombuffer(records[b"file_offsets"], "<i8")
    assert [content[offsets[i] : offsets[i + 1]] for i in range(10)] == [bytes(file) for file in FILES]
    assert records[b"labels"] == bytes(range(10))
    assert records[b"layout"] == struct.pack("<4Q", 10, len(content), 0, 1000)


def test_files_in_several_records_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmdb_packed, "RECORD", 1000)
    lmdb_packed.store_many(tmp_path, FILES, FILE_LABELS)
    check_file_reads(lmdb_packed, tmp_path, (FILES, FILE_LABELS))


def test_a_missing_record_of_files_is_named_by_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmdb_packed, "RECORD", 1000)
    lmdb_packed.store_many(tmp_path, FILES, FILE_LABELS)
    change_records(tmp_path, {make_key(9): None, make_key(1000): b"later"})
    with lmdb_packed.open_reader(tmp_path) as reader:
        reads: list[Callable[[], object]] = [
            lambda: lmdb_packed.read_many(tmp_path),
            lambda: reader.read_encoded(range(10)),
        ]
        for read in reads:
            with pytest.raises(storage.CorruptStoreError, match="bytes 9000 to 10000 of its files are missing"):
                read()


def test_offsets_of_files_do_not_count_as_pixels(tmp_path: Path) -> None:
    lmdb_packed.store_many(tmp_path, *make_files(1000))
    content = (tmp_path / "data.mdb").read_bytes()
    ranges = lmdb_packed.find_pixels(tmp_path)["data.mdb"]
    offsets = content.index(make_files(1000)[0].offsets.tobytes())
    assert not [found for found in ranges if offsets in found]
    assert sum(map(len, ranges)) > make_files(1000)[0].content.nbytes


def test_lmdb_itself_reads_the_records(store: Path) -> None:
    assert read_records(store) == {
        **{make_key(number): IMAGES[8 * number : 8 * number + 8].tobytes() for number in range(7)},
        b"labels": bytes(range(50)),
        b"layout": struct.pack("<4Q", 50, 32, 32, 8),
    }


@pytest.mark.parametrize(
    ("count", "height", "width", "images_per_record"),
    [
        (600, 32, 32, 256),
        (257, 32, 32, 256),
        (1100, 17, 31, 497),
        (3, 512, 513, 1),
        (5, 362, 362, 2),
        (2000, 1, 1, 262_144),
    ],
)
def test_a_record_holds_as_many_images_as_fit(
    tmp_path: Path, count: int, height: int, width: int, images_per_record: int
) -> None:
    images, labels = make_set(count, height, width)
    lmdb_packed.store_many(tmp_path, images, labels)
    assert struct.unpack("<4Q", read_records(tmp_path)[b"layout"])[3] == images_per_record
    check_reads(lmdb_packed, tmp_path, (images, labels))
    order = np.random.default_rng(1).permutation(count)
    with lmdb_packed.open_reader(tmp_path) as reader:
        for part in np.array_split(order, 7):
            assert_same(reader.read(part), (images[part], labels[part]))


def test_read_many_uses_as_many_transactions_as_it_needs(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmdb_packed, "PART", 2 * lmdb_packed.RECORD)
    assert_same(lmdb_packed.read_many(store), (IMAGES, LABELS))


def test_large_images_are_read_into_an_array_without_another_of_their_size(tmp_path: Path) -> None:
    images, labels = make_set(8, 600, 500)
    lmdb_packed.store_many(tmp_path, images, labels)
    out = np.empty_like(images)
    with lmdb_packed.open_reader(tmp_path) as reader:
        tracemalloc.start()
        try:
            reader.read(range(8), out)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < images[0].nbytes
    np.testing.assert_array_equal(out, images)


def shuffle_records(store: Path) -> None:
    """Delete records and put them again in another order, so that LMDB reuses pages where it finds them."""
    order = [5, 0, 3, 6, 1, 4, 2]
    for number in order:
        change_records(store, {make_key(number): None, b"free": bytes(5000)})
        change_records(store, {b"free": None})
    for number in order:
        change_records(store, {make_key(number): IMAGES[8 * number : 8 * number + 8].tobytes()})


def test_records_may_lie_in_any_order(store: Path) -> None:
    shuffle_records(store)
    check_reads(lmdb_packed, store, (IMAGES, LABELS))
    random = np.random.default_rng(0)
    for _ in range(50):
        with lmdb_packed.open_reader(store) as reader:
            for batch in np.split(random.permutation(50), [1, 2, 5, 20]):
                assert_same(reader.read(batch), (IMAGES[batch], LABELS[batch]))
    with lmdb_packed.open_reader(store) as reader:
        addresses = [image.__array_interface__["data"][0] for image in reader.view()]
    assert addresses != sorted(addresses), "the records lie in order: nothing was tested"


def test_a_thread_reads_right_while_another_looks_records_up(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shuffle_records(store)
    found: list[Images] = []

    def stretch(*arguments: Any, **options: Any) -> Images:  # noqa: ANN401 - as NumPy's
        thread = threading.Thread(target=lambda: found.append(reader.read([49, 40])[0]))
        thread.start()
        thread.join()
        return as_strided(*arguments, **options)

    with lmdb_packed.open_reader(store) as reader:
        reader.read([40, 49])
        monkeypatch.setattr(lmdb_packed, "as_strided", stretch)
        np.testing.assert_array_equal(reader.read(range(40))[0], IMAGES[:40])
    np.testing.assert_array_equal(found, [IMAGES[[49, 40]]])


def test_a_damaged_record_costs_no_image_of_another(store: Path) -> None:
    change_records(store, {make_key(3): b"short"})
    out = np.empty_like(IMAGES)
    with lmdb_packed.open_reader(store) as reader:
        reads: list[Callable[[], object]] = [
            lambda: reader[30],
            lambda: reader.read([30]),
            lambda: reader.read(range(50), out),
            lambda: reader.view()[30],
            lambda: np.asarray(reader.view()),
        ]
        for read in reads:
            with pytest.raises(storage.CorruptStoreError, match=f"{store}: records 24 to 31 are missing or damaged"):
                read()
        assert_same(reader.read([0, 49]), (IMAGES[[0, 49]], LABELS[[0, 49]]))


def test_a_shape_beyond_memory_is_a_storage_error(tmp_path: Path) -> None:
    lmdb_packed.store_many(tmp_path, IMAGES[:0], LABELS[:0])
    change_records(tmp_path, {b"layout": struct.pack("<4Q", 0, 10**12, 10**12, 1)})
    for read in (lmdb_packed.read_many, lmdb_packed.open_reader):
        with pytest.raises(storage.StorageError, match="does not fit in memory"):
            read(tmp_path)


def test_an_array_of_a_view_is_a_copy(store: Path) -> None:
    with lmdb_packed.open_reader(store) as reader:
        for copy in (None, True):
            array = np.array(reader.view(), copy=copy)
            assert array.flags.writeable
            np.testing.assert_array_equal(array, IMAGES)
        assert np.asarray(reader.view(), np.float32).dtype == np.float32
        with pytest.raises(ValueError, match="don't lie side by side"):
            np.asarray(reader.view(), copy=False)


def test_a_view_has_no_slices(store: Path) -> None:
    with lmdb_packed.open_reader(store) as reader, pytest.raises(TypeError, match="integer"):
        reader.view()[1:3]
